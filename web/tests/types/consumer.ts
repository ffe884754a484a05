// What a host application writes in TypeScript. Checked, never run: a line that must not pass is marked as that.

import { createNotificationClient, type Notification, type Snapshot } from "carillon-web";
import type { CatalogNotification, EventData, NotificationType } from "carillon-web/catalog";
import { provideClient } from "carillon-web/elements";
import { useNotifications } from "carillon-web/react";

const client = createNotificationClient({ auth: async ({ reason }) => (reason === "unauthorized" ? "a new token" : "a token") });
provideClient(client);

client.on("created", (item) => console.log(item.title, item.metadata["badgeTitle"]));
client.on("frame", ({ event, data }) => console.log(event, data));
// @ts-expect-error: nothing of this name is told
client.on("vanished", () => {});
// @ts-expect-error: a transport that there is not
createNotificationClient({ transport: "websocket" });

const { items, unreadCount }: Snapshot = client.getSnapshot();
// @ts-expect-error: a snapshot is not written to
items.push(items[0]);

/** The type of a notification tells its metadata. */
export function words(item: CatalogNotification): string {
  switch (item.type) {
    case "CERTIFICATE_ISSUED": return item.metadata.badgeTitle;
    case "PAYMENT_DUE": return `${item.metadata.amount} ${item.metadata.dueAt ?? "now"}, ${unreadCount}`;
    // @ts-expect-error: a type that the catalog has not
    case "CERTIFICATE_EATEN": return "";
    default: return item.title;
  }
}

export const known: NotificationType = "TICKET_ASSIGNED";
export const plain: Notification = {} as CatalogNotification;
export const posted: EventData["certificate.issued"] = { student_id: "ada", certificate_id: "c-1", badge_title: "Compilers" };
export const announced: EventData["system.announcement"]["audience"] = { role: "student" };
// @ts-expect-error: a required field is missing
export const halved: EventData["certificate.issued"] = { student_id: "ada" };
// @ts-expect-error: what is only counted is shown to nobody
export const counted: NotificationType = "AUTH_LOGIN_FAILED";

export const Count = () => useNotifications().unreadCount.toFixed();
