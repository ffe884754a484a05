// The five domains of the demonstration: who is there, and what each of them can do. An action posts domain events.

/** Turn and turn about, so that no two events in a row are the same. */
function turns(...values) {
  let at = -1;
  return () => values[(at += 1) % values.length];
}

const badge = turns("Linear Algebra", "Distributed Systems", "Cryptography", "Compilers");
const achievement = turns("First in Class", "Hundred Days", "Peer Reviewer");
const ticket = turns(["1042", "Printer on fire"], ["1043", "Login loop on Safari"], ["1044", "Invoice in the wrong currency"]);
const comment = turns("Have you tried turning it off and on again?", "I can reproduce it on the second floor.", "Fixed in the next release.");
const grade = turns("A", "A-", "B+");
const lead = turns(["lead-77", "Initech"], ["lead-78", "Globex"], ["lead-79", "Umbrella Trading"]);
const wish = turns("I would love to talk about compilers.", "Could we compare notes on type systems?");
let number = Date.now() % 100_000;
const fresh = (prefix) => `${prefix}-${(number += 1)}`;

const by = (id, name) => ({ actor_id: id, actor_name: name });

/** `by`: whose button it is, `does`: the events that it posts. */
export const DOMAINS = [
  {
    id: "credentials",
    name: "Credentials",
    line: "A university issues certificates on a blockchain. Everyone hears what concerns them, in words of their own.",
    tenant: "uni-berlin",
    people: ["platform/sam", "uni-berlin/grace", "uni-berlin/ada", "uni-berlin/mira"],
    actions: [
      { by: "uni-berlin/grace", label: "Issue a certificate", does: () => [event("certificate.issued", { student_id: "ada", certificate_id: fresh("c"), badge_title: badge() })] },
      { by: "uni-berlin/grace", label: "Mint it on chain", does: () => [event("certificate.minted", { student_id: "ada", certificate_id: fresh("c"), badge_title: badge() })] },
      { by: "uni-berlin/grace", label: "Award Mira", does: () => [event("achievement.awarded", { student_id: "mira", achievement_id: fresh("a"), title: achievement() })] },
      { by: "uni-berlin/ada", label: "Fail a login three times", does: () => [1, 2, 3].map(() => event("auth.login_failed", { account_id: "ada", ip: "203.0.113.9" })) },
      { by: "uni-berlin/ada", label: "Link a wallet", does: () => [event("security.wallet_linked", { student_id: "ada", wallet_address: "9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin" })] },
      { by: "platform/sam", label: "Approve the university", does: () => [event("university.approved", { university_id: "uni-berlin", university_name: "University of Berlin" })] },
      { by: "platform/sam", label: "Announce to everyone", does: () => [event("system.announcement", { title: "Maintenance on Sunday", message: "Read-only from 6 to 7 in the morning (UTC).", audience: { everyone: true } })] },
      { by: "uni-berlin/mira", label: "Submit a proof", does: () => [event("zk_proof.verified", { student_id: "mira", proof_id: fresh("p"), claim: "Grade above average" })] },
    ],
  },
  {
    id: "helpdesk",
    name: "Helpdesk",
    line: "Tickets change hands. Whoever acts is not told of it; the others are.",
    tenant: "helpdesk-acme",
    people: ["helpdesk-acme/grace", "helpdesk-acme/ada"],
    actions: ["ada Ada grace Grace", "grace Grace ada Ada"].flatMap((pair) => {
      const [id, name, other, otherName] = pair.split(" ");
      const about = () => {
        const [ticket_id, ticket_title] = ticket();
        return { ticket_id, ticket_title, ...by(id, name) };
      };
      const followed = () => ({ ticket_id: "1042", ticket_title: "Printer on fire", ...by(id, name) });
      const mine = `helpdesk-acme/${id}`;
      return [
        { by: mine, label: `Assign a ticket to ${otherName}`, does: () => [event("ticket.assigned", { ...about(), assignee_id: other })] },
        { by: mine, label: "Comment", does: () => [event("comment.added", { ...followed(), comment_id: fresh("k"), excerpt: comment() })] },
        { by: mine, label: `Mention ${otherName}`, does: () => [event("mention.created", { ...followed(), comment_id: fresh("k"), excerpt: `@${other} could you look at this?`, mentioned_id: other })] },
        { by: mine, label: "Resolve it", does: () => [event("ticket.status_changed", { ...followed(), status: "resolved" })] },
      ];
    }),
  },
  {
    id: "learning",
    name: "Learning",
    line: "Courses, grades, payments. A course’s students follow it as a topic.",
    tenant: "learn-acme",
    people: ["learn-acme/grace", "learn-acme/ada"],
    actions: [
      { by: "learn-acme/grace", label: "Post a grade", does: () => [event("grade.posted", { student_id: "ada", course_id: "crypto-1", course_title: "Cryptography", grade: grade() })] },
      { by: "learn-acme/grace", label: "Move a lecture", does: () => [event("course.updated", { course_id: "crypto-1", course_title: "Cryptography", change: "The lecture of Friday moves to room 12.", ...by("grace", "Grace") })] },
      { by: "learn-acme/grace", label: "Ask for the fee", does: () => [event("payment.due", { student_id: "ada", payment_id: fresh("pay"), amount: 149.5, currency: "EUR", due_at: "2026-12-01T00:00:00Z" })] },
      { by: "learn-acme/ada", label: "Pay", does: () => [event("payment.received", { student_id: "ada", payment_id: fresh("pay"), amount: 149.5, currency: "EUR" })] },
      { by: "learn-acme/ada", label: "Pay with an empty account", does: () => [event("payment.failed", { student_id: "ada", payment_id: fresh("pay"), amount: 149.5, currency: "EUR" })] },
      { by: "learn-acme/ada", label: "Enrol", does: () => [event("enrollment.created", { student_id: "ada", course_id: "crypto-1", course_title: "Cryptography" })] },
    ],
  },
  {
    id: "introductions",
    name: "Introductions",
    line: "One member asks to meet another, who says yes or no.",
    tenant: "people-acme",
    people: ["people-acme/ada", "people-acme/grace"],
    actions: [
      { by: "people-acme/ada", label: "Request an introduction", does: () => [event("introduction.requested", { ...meeting(), message: wish() })] },
      { by: "people-acme/grace", label: "Accept", does: () => [event("introduction.accepted", { ...meeting(), message: "With pleasure. Thursday?" })] },
      { by: "people-acme/grace", label: "Decline", does: () => [event("introduction.declined", { ...meeting(), message: "Not this month, sorry." })] },
    ],
  },
  {
    id: "leads",
    name: "Leads",
    line: "New leads go to the managers, assigned ones to their owner, and only important notes to anybody.",
    tenant: "crm-acme",
    people: ["crm-acme/grace", "crm-acme/ada"],
    actions: [
      { by: "crm-acme/ada", label: "Bring in a lead", does: () => [event("lead.created", { ...company(), source: "web form", ...by("ada", "Ada") })] },
      { by: "crm-acme/ada", label: "Write an important note", does: () => [event("lead.note_added", { ...company(), owner_id: "grace", note_id: fresh("n"), excerpt: "They want the contract by Friday.", important: true, ...by("ada", "Ada") })] },
      { by: "crm-acme/ada", label: "Write a small note", does: () => [event("lead.note_added", { ...company(), owner_id: "grace", note_id: fresh("n"), excerpt: "Called, nobody there.", important: false, ...by("ada", "Ada") })] },
      { by: "crm-acme/grace", label: "Assign the lead to Ada", does: () => [event("lead.assigned", { ...company(), assignee_id: "ada", ...by("grace", "Grace") })] },
    ],
  },
];

function event(type, data) {
  return { type, data };
}

function meeting() {
  return { introduction_id: fresh("intro"), requester_id: "ada", requester_name: "Ada Lovelace", target_id: "grace", target_name: "Grace Hopper" };
}

function company() {
  const [lead_id, lead_name] = lead();
  return { lead_id, lead_name };
}
