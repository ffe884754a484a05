// Made of the event types by `carillon catalog types`: declare there what is to change here.

import type { Notification } from "carillon-web";

/** The data of each event type, as a producer posts it. */
export interface EventData {
  /** A login failed. Counted for its account, shown to nobody. */
  "auth.login_failed": { actor_id?: string; actor_name?: string; account_id: string; ip?: string; user_agent?: string };
  /** A university asked to join the platform. */
  "university.registered": { actor_id?: string; actor_name?: string; university_id: string; university_name: string };
  /** The platform approved a university. */
  "university.approved": { actor_id?: string; actor_name?: string; university_id: string; university_name: string };
  /** The platform rejected a university's registration. */
  "university.rejected": { actor_id?: string; actor_name?: string; university_id: string; university_name: string; reason?: string };
  /** The platform suspended a university. */
  "university.suspended": { actor_id?: string; actor_name?: string; university_id: string; university_name: string; reason?: string };
  /** A certificate was issued and waits for its confirmation on the blockchain. */
  "certificate.issued": { actor_id?: string; actor_name?: string; student_id: string; certificate_id: string; badge_title: string };
  /** A certificate was confirmed on the blockchain. */
  "certificate.minted": { actor_id?: string; actor_name?: string; student_id: string; certificate_id: string; badge_title: string; mint_address?: string };
  /** A certificate was withdrawn by its university. */
  "certificate.revoked": { actor_id?: string; actor_name?: string; student_id: string; certificate_id: string; badge_title: string; reason?: string };
  /** Somebody verified a student's certificate. */
  "certificate.verified": { actor_id?: string; actor_name?: string; student_id: string; certificate_id: string; badge_title: string; verifier_name?: string };
  /** A student's commitment was registered. */
  "zk_commitment.registered": { actor_id?: string; actor_name?: string; student_id: string; commitment_id: string };
  /** A student's proof arrived and waits for its verification. */
  "zk_proof.uploaded": { actor_id?: string; actor_name?: string; student_id: string; proof_id: string; claim?: string };
  /** A student's proof holds. */
  "zk_proof.verified": { actor_id?: string; actor_name?: string; student_id: string; proof_id: string; claim?: string };
  /** A student's proof could not be verified. */
  "zk_proof.failed": { actor_id?: string; actor_name?: string; student_id: string; proof_id: string; claim?: string; reason?: string };
  /** A batch of certificates was worked through. */
  "batch_job.completed": { actor_id?: string; actor_name?: string; job_id: string; job_name: string; total: number; succeeded: number };
  /** A batch of certificates broke off. */
  "batch_job.failed": { actor_id?: string; actor_name?: string; job_id: string; job_name: string; total: number; succeeded: number; error: string };
  /** Several logins of one account failed within the window. Made from auth.login_failed, one for each window. */
  "security.login_failed": { actor_id?: string; actor_name?: string; account_id: string; failures: number; window_start?: string; first_failure?: string; last_failure?: string; ip?: string; user_agent?: string; addresses?: Array<string>; address_count?: number };
  /** An account was locked. */
  "security.account_locked": { actor_id?: string; actor_name?: string; account_id: string; ip?: string; device?: string; location?: string };
  /** An account was used from a device that was not seen before. */
  "security.new_device": { actor_id?: string; actor_name?: string; account_id: string; ip?: string; device?: string; location?: string };
  /** An account was logged in to. */
  "security.new_login": { actor_id?: string; actor_name?: string; account_id: string; ip?: string; device?: string; location?: string };
  /** A wallet was linked to a student's account. */
  "security.wallet_linked": { actor_id?: string; actor_name?: string; student_id: string; wallet_address: string };
  /** A student was awarded an achievement. */
  "achievement.awarded": { actor_id?: string; actor_name?: string; student_id: string; achievement_id: string; title: string };
  /** A student was added to a course of the university. */
  "enrollment.added": { actor_id?: string; actor_name?: string; student_id: string; enrollment_id: string; course_name: string };
  /** An issue or pull request was assigned to somebody. */
  "github.assigned": { actor_id: string; actor_name?: string; repository: string; thread: string; thread_name: string; thread_kind: string; thread_title: string; number?: number; url?: string; assignee_id: string };
  /** Somebody's review of a pull request was requested. */
  "github.review_requested": { actor_id: string; actor_name?: string; repository: string; thread: string; thread_name: string; thread_kind: string; thread_title: string; number?: number; url?: string; reviewer_id: string };
  /** Somebody was mentioned where a thread was opened, or in a text that was edited. */
  "github.mentioned": { actor_id: string; actor_name?: string; repository: string; thread: string; thread_name: string; thread_kind: string; thread_title?: string; number?: number; url?: string; excerpt?: string; mentioned_ids: Array<string> };
  /** Somebody commented on an issue, pull request, discussion or commit. */
  "github.commented": { actor_id: string; actor_name?: string; repository: string; thread: string; thread_name: string; thread_kind: string; thread_title?: string; number?: number; url?: string; excerpt?: string; mentioned_ids: Array<string>; participant_ids: Array<string> };
  /** Somebody reviewed a pull request, or dismissed a review of it. */
  "github.reviewed": { actor_id: string; actor_name?: string; repository: string; thread: string; thread_name: string; thread_kind: string; thread_title: string; number?: number; url?: string; excerpt?: string; mentioned_ids: Array<string>; participant_ids: Array<string>; verdict: "approved" | "changes_requested" | "commented" | "dismissed" };
  /** A thread was closed, reopened, merged or answered. */
  "github.state_changed": { actor_id: string; actor_name?: string; repository: string; thread: string; thread_name: string; thread_kind: string; thread_title: string; number?: number; url?: string; participant_ids: Array<string>; state: "closed" | "reopened" | "merged" | "answered"; reason?: string };
  /** A delivery of which GitHub would tell nobody. Accepted and counted. */
  "github.delivery": { actor_id?: string; actor_name?: string; event: string; action?: string; repository?: string };
  /** A ticket was given to somebody. */
  "ticket.assigned": { actor_id?: string; actor_name?: string; ticket_id: string; ticket_title: string; assignee_id: string };
  /** A ticket has another status. */
  "ticket.status_changed": { actor_id?: string; actor_name?: string; ticket_id: string; ticket_title: string; status: string };
  /** Somebody commented on a ticket. Its followers are told, not the author. */
  "comment.added": { actor_id?: string; actor_name?: string; ticket_id: string; ticket_title: string; comment_id: string; excerpt: string };
  /** Somebody was mentioned in a ticket's comment. */
  "mention.created": { actor_id?: string; actor_name?: string; ticket_id: string; ticket_title: string; comment_id: string; excerpt: string; mentioned_id: string };
  /** A member asks to be introduced to another. */
  "introduction.requested": { actor_id?: string; actor_name?: string; introduction_id: string; requester_id: string; requester_name: string; target_id: string; target_name: string; message?: string };
  /** The member who was asked for accepted the introduction. */
  "introduction.accepted": { actor_id?: string; actor_name?: string; introduction_id: string; requester_id: string; requester_name: string; target_id: string; target_name: string; message?: string };
  /** The member who was asked for declined the introduction. */
  "introduction.declined": { actor_id?: string; actor_name?: string; introduction_id: string; requester_id: string; requester_name: string; target_id: string; target_name: string; message?: string };
  /** A new lead came in. The sales managers are told. */
  "lead.created": { actor_id?: string; actor_name?: string; lead_id: string; lead_name: string; source?: string };
  /** A lead was given to somebody. */
  "lead.assigned": { actor_id?: string; actor_name?: string; lead_id: string; lead_name: string; assignee_id: string };
  /** Somebody wrote a note on a lead. Its owner is told of the important ones only. */
  "lead.note_added": { actor_id?: string; actor_name?: string; lead_id: string; lead_name: string; owner_id: string; note_id: string; excerpt: string; important: boolean };
  /** A student joined a course. */
  "enrollment.created": { actor_id?: string; actor_name?: string; student_id: string; course_id: string; course_title: string };
  /** A student left a course, or was taken out of it. */
  "enrollment.removed": { actor_id?: string; actor_name?: string; student_id: string; course_id: string; course_title: string };
  /** A student's grade in a course is known. */
  "grade.posted": { actor_id?: string; actor_name?: string; student_id: string; course_id: string; course_title: string; grade: string | number };
  /** A student's payment arrived. */
  "payment.received": { actor_id?: string; actor_name?: string; student_id: string; payment_id: string; amount: number | string; currency: string; due_at?: string };
  /** A student's payment could not be collected. */
  "payment.failed": { actor_id?: string; actor_name?: string; student_id: string; payment_id: string; amount: number | string; currency: string; due_at?: string };
  /** A student's payment is due. */
  "payment.due": { actor_id?: string; actor_name?: string; student_id: string; payment_id: string; amount: number | string; currency: string; due_at?: string };
  /** Something about a course changed. Its students are told, not whoever changed it. */
  "course.updated": { actor_id?: string; actor_name?: string; course_id: string; course_title: string; change: string };
  /** An announcement to everyone, a role, a topic or a tenant, as its audience says. */
  "system.announcement": { actor_id?: string; actor_name?: string; title: string; message: string; action_url?: string; audience: { everyone: true } | { role: string } | { topic: string } | { tenant: string } };
  /** A test of the way to one's own screen. */
  "system.test": { actor_id?: string; actor_name?: string; recipient_id: string; message: string };
}

export type EventType = keyof EventData;

/** What each type of notification adds to what all of them have. */
export interface NotificationTypes {
  /** A university asked to join the platform. */
  UNIVERSITY_REGISTERED: { category: "university"; metadata: { universityId: string; universityName: string } };
  /** The platform approved a university. */
  UNIVERSITY_APPROVED: { category: "university"; metadata: { universityId: string; universityName: string } };
  /** The platform rejected a university's registration. */
  UNIVERSITY_REJECTED: { category: "university"; metadata: { universityId: string; universityName: string; reason?: string } };
  /** The platform suspended a university. */
  UNIVERSITY_SUSPENDED: { category: "university"; metadata: { universityId: string; universityName: string; reason?: string } };
  /** A certificate was issued and waits for its confirmation on the blockchain. */
  CERTIFICATE_ISSUED: { category: "certificate"; metadata: { certificateId: string; badgeTitle: string } };
  /** A certificate was confirmed on the blockchain. */
  CERTIFICATE_MINTED: { category: "certificate"; metadata: { certificateId: string; badgeTitle: string; mintAddress?: string } };
  /** A certificate was withdrawn by its university. */
  CERTIFICATE_REVOKED: { category: "certificate"; metadata: { certificateId: string; badgeTitle: string; reason?: string } };
  /** Somebody verified a student's certificate. */
  CERTIFICATE_VERIFIED: { category: "certificate"; metadata: { certificateId: string; badgeTitle: string; verifierName?: string } };
  /** A student's commitment was registered. */
  ZK_COMMITMENT_REGISTERED: { category: "proof"; metadata: { commitmentId: string } };
  /** A student's proof arrived and waits for its verification. */
  ZK_PROOF_UPLOADED: { category: "proof"; metadata: { proofId: string; claim?: string } };
  /** A student's proof holds. */
  ZK_PROOF_VERIFIED: { category: "proof"; metadata: { proofId: string; claim?: string } };
  /** A student's proof could not be verified. */
  ZK_PROOF_FAILED: { category: "proof"; metadata: { proofId: string; claim?: string; reason?: string } };
  /** A batch of certificates was worked through. */
  BATCH_JOB_COMPLETED: { category: "batch"; metadata: { jobId: string; jobName: string; total: number; succeeded: number } };
  /** A batch of certificates broke off. */
  BATCH_JOB_FAILED: { category: "batch"; metadata: { jobId: string; jobName: string; total: number; succeeded: number; error: string } };
  /** Several logins of one account failed within the window. Made from auth.login_failed, one for each window. */
  SECURITY_LOGIN_FAILED: { category: "security"; metadata: { accountId: string; failures: number; windowStart?: string; firstFailure?: string; lastFailure?: string; ip?: string; addresses?: Array<string>; addressCount?: number } };
  /** An account was locked. */
  SECURITY_ACCOUNT_LOCKED: { category: "security"; metadata: { accountId: string; ip?: string; device?: string; location?: string } };
  /** An account was used from a device that was not seen before. */
  SECURITY_NEW_DEVICE: { category: "security"; metadata: { accountId: string; ip?: string; device?: string; location?: string } };
  /** An account was logged in to. */
  SECURITY_NEW_LOGIN: { category: "security"; metadata: { accountId: string; ip?: string; device?: string; location?: string } };
  /** A wallet was linked to a student's account. */
  SECURITY_WALLET_LINKED: { category: "security"; metadata: { walletAddress: string } };
  /** A student was awarded an achievement. */
  ACHIEVEMENT_AWARDED: { category: "achievement"; metadata: { achievementId: string; title: string } };
  /** A student was added to a course of the university. */
  ENROLLMENT_ADDED: { category: "enrollment"; metadata: { enrollmentId: string; courseName: string } };
  /** An issue or pull request was assigned to somebody. */
  GITHUB_ASSIGNED: { category: "ticket"; metadata: { repository: string; number?: number; threadKind: string } };
  /** Somebody's review of a pull request was requested. */
  GITHUB_REVIEW_REQUESTED: { category: "review"; metadata: { repository: string; number?: number; threadKind: string } };
  /** Somebody was mentioned where a thread was opened, or in a text that was edited. */
  GITHUB_MENTIONED: { category: "mention"; metadata: { repository: string; number?: number; threadKind: string } };
  /** Somebody commented on an issue, pull request, discussion or commit. */
  GITHUB_COMMENTED: { category: "comment"; metadata: { repository: string; number?: number; threadKind: string } };
  /** Somebody reviewed a pull request, or dismissed a review of it. */
  GITHUB_REVIEWED: { category: "review"; metadata: { repository: string; number?: number; threadKind: string; verdict: "approved" | "changes_requested" | "commented" | "dismissed" } };
  /** A thread was closed, reopened, merged or answered. */
  GITHUB_STATE_CHANGED: { category: "ticket"; metadata: { repository: string; number?: number; threadKind: string; state: "closed" | "reopened" | "merged" | "answered" } };
  /** A ticket was given to somebody. */
  TICKET_ASSIGNED: { category: "ticket"; metadata: { ticketId: string; ticketTitle: string } };
  /** A ticket has another status. */
  TICKET_STATUS_CHANGED: { category: "ticket"; metadata: { ticketId: string; ticketTitle: string; status: string } };
  /** Somebody commented on a ticket. Its followers are told, not the author. */
  COMMENT_ADDED: { category: "comment"; metadata: { ticketId: string; ticketTitle: string; commentId: string } };
  /** Somebody was mentioned in a ticket's comment. */
  MENTION_CREATED: { category: "mention"; metadata: { ticketId: string; ticketTitle: string; commentId: string } };
  /** A member asks to be introduced to another. */
  INTRODUCTION_REQUESTED: { category: "introduction"; metadata: { introductionId: string; requesterId: string; requesterName: string } };
  /** The member who was asked for accepted the introduction. */
  INTRODUCTION_ACCEPTED: { category: "introduction"; metadata: { introductionId: string; targetId: string; targetName: string } };
  /** The member who was asked for declined the introduction. */
  INTRODUCTION_DECLINED: { category: "introduction"; metadata: { introductionId: string; targetId: string; targetName: string } };
  /** A new lead came in. The sales managers are told. */
  LEAD_CREATED: { category: "lead"; metadata: { leadId: string; leadName: string; source?: string } };
  /** A lead was given to somebody. */
  LEAD_ASSIGNED: { category: "lead"; metadata: { leadId: string; leadName: string } };
  /** Somebody wrote a note on a lead. Its owner is told of the important ones only. */
  LEAD_NOTE_ADDED: { category: "lead"; metadata: { leadId: string; leadName: string; noteId: string } };
  /** A student joined a course. */
  ENROLLMENT_CREATED: { category: "enrollment"; metadata: { courseId: string; courseTitle: string } };
  /** A student left a course, or was taken out of it. */
  ENROLLMENT_REMOVED: { category: "enrollment"; metadata: { courseId: string; courseTitle: string } };
  /** A student's grade in a course is known. */
  GRADE_POSTED: { category: "grade"; metadata: { courseId: string; courseTitle: string; grade: string | number } };
  /** A student's payment arrived. */
  PAYMENT_RECEIVED: { category: "payment"; metadata: { paymentId: string; amount: number | string; currency: string } };
  /** A student's payment could not be collected. */
  PAYMENT_FAILED: { category: "payment"; metadata: { paymentId: string; amount: number | string; currency: string; dueAt?: string } };
  /** A student's payment is due. */
  PAYMENT_DUE: { category: "payment"; metadata: { paymentId: string; amount: number | string; currency: string; dueAt?: string } };
  /** Something about a course changed. Its students are told, not whoever changed it. */
  COURSE_UPDATED: { category: "course"; metadata: { courseId: string; courseTitle: string } };
  /** An announcement to everyone, a role, a topic or a tenant, as its audience says. */
  SYSTEM_ANNOUNCEMENT: { category: "system"; metadata: Record<string, never> };
  /** A test of the way to one's own screen. */
  SYSTEM_TEST: { category: "system"; metadata: Record<string, never> };
}

export type NotificationType = keyof NotificationTypes;

/** A notification of the catalog: its `type` tells which `metadata` it has. */
export type CatalogNotification = {
  [T in NotificationType]: Omit<Notification, "type" | "category" | "metadata"> & { type: T } & NotificationTypes[T];
}[NotificationType];
