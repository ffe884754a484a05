import type { NotificationClient } from "../core/client.js";
import type { Notification, Options } from "../core/types.js";
/** Makes a client of its own from `options` (read once), or lends the one it is given. It runs while this is mounted.
 * @param {{client?: NotificationClient, options?: Options, children?: import("react").ReactNode}} props */
export declare function NotificationProvider({ client: given, options, children }: {
    client?: NotificationClient;
    options?: Options;
    children?: import("react").ReactNode;
}): import("react").FunctionComponentElement<import("react").ProviderProps<{
    locale: string | undefined;
    baseUrl: string;
    on: <T extends keyof import("../core/types.js").Told>(type: T, handler: (detail: import("../core/types.js").Told[T]) => void) => () => undefined;
    start: () => void;
    stop: () => void;
    getSnapshot: () => import("../core/types.js").Snapshot;
    subscribe: (listener: () => void) => () => undefined;
    readonly lastEventAt: number;
    view(filter: import("../core/client.js").Filter): {
        getSnapshot: () => import("../core/types.js").Snapshot;
        loadMore: () => Promise<void>;
        close: () => undefined;
    };
    loadMore: () => Promise<void>;
    refresh: () => Promise<void | void[]>;
    markRead: (which: string) => void | Promise<void>;
    markUnread: (which: string) => void | Promise<void>;
    archive: (which: string) => void | Promise<void>;
    unarchive: (which: string) => void | Promise<void>;
    remove: (which: string) => void | Promise<void>;
    markOneSeen: (which: string) => void | Promise<void>;
    markSeen: (upTo?: string | null) => undefined;
    markAllRead: (upTo?: string | null) => undefined;
    removeRead: (upTo?: string | null) => undefined;
    retryNow(): void;
} | null>>;
/** The notifications and what can be done with them. `isLoading`: before the first page; `loading`: while any is read. */
export declare function useNotifications(): {
    fetchNotifications: () => Promise<void | void[]>;
    refetch: () => Promise<void | void[]>;
    fetchMore: () => Promise<void>;
    markAsRead: (which: string) => void | Promise<void>;
    markAllAsRead: () => undefined;
    deleteNotification: (which: string) => void | Promise<void>;
    deleteAllRead: () => undefined;
    notifications: readonly Notification[];
    unreadCount: number;
    hasUnread: boolean;
    isLoading: boolean;
    loading: boolean;
    hasMore: boolean;
    totalCount: number;
    error: (Error & {
        status?: number;
    }) | null;
};
/** How the stream is. `onEvent(handler)` follows every event and returns what ends that. */
export declare function useNotificationStream(): {
    status: import("../core/types.js").Status;
    lastEventAt: number | null;
    retry: () => void;
    onEvent: (handler: (frame: import("../core/types.js").Frame) => void) => () => undefined;
};
/** `href` of the full page; `onOpen(notification, event)`, whose default is to follow the link.
 * @param {{href?: string, onOpen?: (item: Notification, event: Event) => void, [attribute: string]: any}} props */
export declare const NotificationBell: (props: {
    href?: string;
    onOpen?: (item: Notification, event: Event) => void;
    [attribute: string]: any;
}) => import("react").DOMElement<import("react").DOMAttributes<any>, any> | null;
/** @param {{notification: Notification, children?: import("react").ReactNode, [attribute: string]: any}} props */
export declare function NotificationItem({ notification, children, ...props }: {
    notification: Notification;
    children?: import("react").ReactNode;
    [attribute: string]: any;
}): import("react").ReactElement<{
    "data-unread": string | undefined;
}, string | import("react").JSXElementConstructor<any>>;
/** The whole list: `<carillon-inbox>`, or with `renderItem` a feed of one's own.
 * @param {{renderItem?: (item: Notification) => import("react").ReactNode, [attribute: string]: any}} props */
export declare function NotificationList({ renderItem, ...props }: {
    renderItem?: (item: Notification) => import("react").ReactNode;
    [attribute: string]: any;
}): import("react").FunctionComponentElement<Record<string, any>> | import("react").FunctionComponentElement<{
    [attribute: string]: any;
    renderItem: (item: Notification) => import("react").ReactNode;
}>;
