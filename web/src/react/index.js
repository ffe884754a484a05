// React bindings (18 and newer): thin, on useSyncExternalStore. The elements do the showing.

/** @import { NotificationClient } from "../core/client.js" */
/** @import { Notification, Options } from "../core/types.js" */
import { createContext, createElement, useCallback, useContext, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { createNotificationClient } from "../core/client.js";

/** @type {import("react").Context<NotificationClient | null>} */
const Context = createContext(/** @type {NotificationClient | null} */ (null));

/** Makes a client of its own from `options` (read once), or lends the one it is given. It runs while this is mounted.
 * @param {{client?: NotificationClient, options?: Options, children?: import("react").ReactNode}} props */
export function NotificationProvider({ client: given, options, children }) {
  const [made] = useState(() => given ?? createNotificationClient(options));
  const client = given ?? made;
  useEffect(() => {
    client.start();
    return () => void (given || client.stop());
  }, [client, given]);
  return createElement(Context.Provider, { value: client }, children);
}

function useClient() {
  const client = useContext(Context);
  if (!client) throw new Error("There is no <NotificationProvider> around this component.");
  return client;
}

function useSnapshot() {
  const client = useClient();
  return useSyncExternalStore(client.subscribe, client.getSnapshot, client.getSnapshot);
}

/** The notifications and what can be done with them. `isLoading`: before the first page; `loading`: while any is read. */
export function useNotifications() {
  const client = useClient();
  const { items, unreadCount, hasMore, loading, loaded, totalCount, error } = useSnapshot();
  const actions = useMemo(() => ({
    fetchNotifications: client.refresh,
    refetch: client.refresh,
    fetchMore: client.loadMore,
    markAsRead: client.markRead,
    markAllAsRead: () => client.markAllRead(),
    deleteNotification: client.remove,
    deleteAllRead: () => client.removeRead(),
  }), [client]);
  return { notifications: items, unreadCount, hasUnread: unreadCount > 0, isLoading: !loaded && !error, loading, hasMore, totalCount, error, ...actions };
}

/** How the stream is. `onEvent(handler)` follows every event and returns what ends that. */
export function useNotificationStream() {
  const client = useClient();
  const { status } = useSnapshot();
  const onEvent = useCallback((/** @type {(frame: import("../core/types.js").Frame) => void} */ handler) => client.on("frame", handler), [client]);
  return { status, lastEventAt: client.lastEventAt || null, retry: client.retryNow, onEvent };
}

/** One of the elements, with this provider's client. React 18 sets no properties of elements, so it is done here.
 * @param {string} name @param {Record<string, any>} props */
function Element(name, { onOpen, ...props }) {
  const client = useClient();
  const ref = useRef(/** @type {any} */ (null));
  const opened = useRef(onOpen);
  opened.current = onOpen;
  const [ready, setReady] = useState(false);
  useEffect(() => {
    import("../elements/index.js").then(() => setReady(true));
  }, []);
  useEffect(() => {
    const listener = (/** @type {CustomEvent} */ event) => opened.current?.(event.detail, event);
    ref.current?.addEventListener("carillon-open", listener);
    return () => ref.current?.removeEventListener("carillon-open", listener);
  }, [ready]);
  const attach = useCallback((/** @type {any} */ element) => {
    ref.current = element;
    if (element) element.client = client;
  }, [client]);
  return ready ? createElement(name, { ...props, ref: attach }) : null;
}

/** `href` of the full page; `onOpen(notification, event)`, whose default is to follow the link.
 * @param {{href?: string, onOpen?: (item: Notification, event: Event) => void, [attribute: string]: any}} props */
export const NotificationBell = (props) => Element("carillon-bell", props);

/** @param {{notification: Notification, children?: import("react").ReactNode, [attribute: string]: any}} props */
export function NotificationItem({ notification, children, ...props }) {
  const { markAsRead, deleteNotification } = useNotifications();
  const { id, title, message, read, createdAt, actionUrl } = notification;
  const heading = /^(https?:|\/(?!\/))/.test(actionUrl ?? "")
    ? createElement("a", { href: actionUrl, onClick: () => void (read || markAsRead(id)) }, title) : title;
  return createElement("article", { "data-unread": read ? undefined : "", ...props },
    createElement("h3", null, heading),
    createElement("p", null, message),
    createElement("time", { dateTime: createdAt }, new Date(createdAt).toLocaleString()),
    children ?? createElement("span", null,
      createElement("button", { type: "button", disabled: read, onClick: () => markAsRead(id) }, "Mark read"),
      createElement("button", { type: "button", onClick: () => deleteNotification(id) }, "Delete")));
}

/** The whole list: `<carillon-inbox>`, or with `renderItem` a feed of one's own.
 * @param {{renderItem?: (item: Notification) => import("react").ReactNode, [attribute: string]: any}} props */
export function NotificationList({ renderItem, ...props }) {
  return renderItem ? createElement(Feed, { renderItem, ...props }) : createElement(Inbox, props);
}

/** @param {Record<string, any>} props */
const Inbox = (props) => Element("carillon-inbox", props);

/** @param {{renderItem: (item: Notification) => import("react").ReactNode, [attribute: string]: any}} props */
function Feed({ renderItem, ...props }) {
  const { notifications, hasMore, loading, fetchMore } = useNotifications();
  return createElement("div", { role: notifications.length ? "feed" : undefined, "aria-busy": loading, ...props }, ...notifications.map(renderItem),
    hasMore && createElement("button", { type: "button", key: "more", disabled: loading, onClick: fetchMore }, "Load more"));
}
