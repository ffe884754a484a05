import type { Counters, Filter, FrameData, Notification, Operation, Page, View, ViewSnapshot } from "./types.js";
/** Split `<epoch>-<seq>`; without one nothing is later. @param {string} [cursor] */
export declare const seqOf: (cursor?: string) => {
    epoch: number;
    seq: number;
};
/** @param {() => void} changed called after every change that can be seen; never while a replay is half told */
export declare function createStore(changed: () => void): {
    apply: (id: string, data: FrameData) => "applied" | "dropped" | "gap";
    projected: () => {
        nodes: Map<string, Notification>;
        counts: Counters;
    };
    /** The last change that was applied; null before the first page. */
    readonly cursor: string | null;
    readonly seq: number;
    /** @param {Filter} filter @returns {View} */
    view(filter: Filter): View;
    views: Set<View>;
    /** A page is asked for. @param {View} view */
    read(view: View): void;
    /** A page is there, or is not to be had. Nothing was applied since it was asked for: it is of the mark or later.
     * The first of all sets the mark. @param {View} view @param {Page} [page] @param {boolean} [first] */
    paged(view: View, page?: Page, first?: boolean): void;
    /** Forget what the server told; what is seen stays until there is a page, what is pending as well. */
    reset(): void;
    /** Forget what is seen and what is pending, too: the inbox is another one. */
    clear(): void;
    /** @param {Operation} operation */
    begin(operation: Operation): void;
    /** The server did it at `cursor`, or (without one) did not. @param {Operation} operation @param {string} [cursor] */
    end(operation: Operation, cursor?: string): void;
    /** Return how a view looks now; its list is the same object while what it holds is.
     * @param {View} view @returns {ViewSnapshot} */
    look(view: View): ViewSnapshot;
};
