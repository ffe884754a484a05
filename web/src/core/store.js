// One inbox. Seen is: the server's state + an ordered list of pending operations. A failed one is taken out of the list.

/** @import { Counters, Filter, FrameData, Notification, Operation, Page, View, ViewSnapshot } from "./types.js" */

const NONE = { unreadCount: 0, unseenCount: 0 };

/** Split `<epoch>-<seq>`; without one nothing is later. @param {string} [cursor] */
export const seqOf = (cursor = "") => {
  const [epoch, seq] = cursor.split("-").map(Number);
  return { epoch, seq };
};

/** 1 for what has not the mark and is not put away, else 0. @param {Notification | null} node @param {"readAt" | "seenAt"} mark */
const lacks = (node, mark) => Number(node && !node[mark] && !node.archivedAt);

/** What an operation makes of a notification; null: it is gone. @param {Operation} operation @param {Notification} node */
function done({ id, marks }, node) {
  if (!marks) return id || node.read ? null : node;
  const now = new Date().toISOString();
  const { read = node.read || marks.archived || false, archived = Boolean(node.archivedAt) } = marks;
  const seenAt = node.seenAt ?? (read || marks.seen ? now : null);
  return { ...node, read, readAt: read ? node.readAt ?? now : null, seenAt, archivedAt: archived ? now : null };
}

/** @param {Filter} filter @param {Notification} node */
const matches = (filter, node) =>
  !filter.archived === !node.archivedAt &&
  (filter.unread === undefined || filter.unread === !node.read) &&
  /** @type {const} */ (["type", "category", "priority"]).every((name) => !filter[name] || filter[name] === node[name]);

/** @param {() => void} changed called after every change that can be seen; never while a replay is half told */
export function createStore(changed) {
  /** @type {Map<string, Notification>} */
  const nodes = new Map();
  const unloaded = { floor: Infinity, hasMore: true, end: null, loaded: false };
  /** @type {Set<View>} */
  const views = new Set();
  /** @type {Operation[]} */
  let operations = [];
  /** @type {{epoch: number, seq: number} | null} */
  let mark = null;
  let counters = NONE;
  /** A replay tells its counters at its end: until then what was seen before it stays, list and counters together. */
  let half = false;
  /** @type {{nodes: Map<string, Notification>, counts: Counters} | null} */
  let shown = null;

  function touch() {
    shown = null;
    changed();
  }

  /** @param {Notification} [node] */
  function put(node) {
    if (node && (nodes.get(node.id)?.seq ?? -1) < node.seq) nodes.set(node.id, node);
  }

  /** Replace what was not told anything newer. @param {FrameData} data @param {number} seq
   * @param {(node: Notification) => Partial<Notification> | null | false} fields null: it is gone; false: it stays */
  function set({ upTo }, seq, fields) {
    const { seq: bound } = seqOf(upTo);
    for (const node of nodes.values()) {
      const within = !upTo || (node.createdSeq <= bound && !node.archivedAt);
      const told = within && node.seq < seq && fields(node);
      if (told) nodes.set(node.id, { ...node, ...told, seq });
      else if (told === null) nodes.delete(node.id);
    }
  }

  /** Do what a frame says. Again: nothing. @param {FrameData} data @param {number} seq */
  function change(data, seq) {
    const { type, notificationId: one, readAt, seenAt, archivedAt } = data;
    for (const node of data.notifications ?? [data.notification]) put(node);
    for (const id of data.deletedIds ?? data.notificationIds ?? []) nodes.delete(id);
    if (type === "read_all") set(data, seq, (node) => !node.read && { read: true, readAt, seenAt: node.seenAt ?? readAt });
    else if (type === "seen_all") set(data, seq, (node) => !node.seenAt && { seenAt });
    else if (type === "deleted_read") set(data, seq, (node) => node.read && null);
    else if (one && readAt !== undefined) {
      set(data, seq, (node) => node.id === one && { read: Boolean(readAt), readAt, seenAt, archivedAt });
    }
  }

  /** @param {{epoch: number, seq: number}} next @param {Partial<Counters>} told */
  function advance(next, told) {
    const first = !mark;
    mark = next;
    half = told.unreadCount === undefined;
    if (half) return;
    counters = /** @type {Counters} */ (told);
    operations = operations.filter(({ done }) => done === undefined || (!first && done > next.seq));
    touch();
  }

  /**
   * Take a frame, by the rule: applied if it follows the mark, dropped if it is at or below it, else there is a gap.
   * @param {string} id @param {FrameData} data @returns {"applied" | "dropped" | "gap"}
   */
  function apply(id, data) {
    const next = seqOf(id);
    if (!mark || next.epoch !== mark.epoch || (next.seq > mark.seq && data.prev !== mark.seq)) return "gap";
    if (next.seq <= mark.seq && (data.type || data.prev !== mark.seq)) return "dropped";
    if (data.type) change(data, next.seq);
    advance(next, data);
    return "applied";
  }

  /** The inbox with the pending operations done. */
  function projected() {
    if (shown) return shown;
    const map = operations.length ? new Map(nodes) : nodes;
    let { unreadCount, unseenCount } = counters;
    for (const operation of operations) {
      const { id, marks } = operation;
      const { seq: upTo } = seqOf(operation.upTo);
      for (const node of id ? [map.get(id)] : [...map.values()]) {
        if (!node || (!id && (node.createdSeq > upTo || node.archivedAt))) continue;
        const next = done(operation, node);
        unreadCount += lacks(next, "readAt") - lacks(node, "readAt");
        unseenCount += lacks(next, "seenAt") - lacks(node, "seenAt");
        if (next) map.set(node.id, next);
        else map.delete(node.id);
      }
      // What lies beyond the pages is older than the bound: the rest is known.
      if (id || !marks) continue;
      if (marks.read) unreadCount = 0;
      unseenCount = 0;
      for (const node of map.values()) {
        if (marks.read) unreadCount += lacks(node, "readAt");
        unseenCount += lacks(node, "seenAt");
      }
    }
    return (shown = { nodes: map, counts: { unreadCount, unseenCount } });
  }

  return {
    apply,
    projected,
    /** The last change that was applied; null before the first page. */
    get cursor() {
      return mark && `${mark.epoch}-${mark.seq}`;
    },
    get seq() {
      return mark?.seq ?? -1;
    },

    /** @param {Filter} filter @returns {View} */
    view(filter) {
      const view = { ...unloaded, filter, total: 0, loading: false, items: [], snapshot: null };
      views.add(view);
      return view;
    },
    views,

    /** A page is asked for. @param {View} view */
    read(view) {
      view.loading = true;
      touch();
    },
    /** A page is there, or is not to be had. Nothing was applied since it was asked for: it is of the mark or later.
     * The first of all sets the mark. @param {View} view @param {Page} [page] @param {boolean} [first] */
    paged(view, page, first) {
      view.loading = false;
      if (page) {
        for (const node of page.nodes) put(node);
        const { hasNextPage: hasMore, endCursor: end } = page.pageInfo;
        Object.assign(view, { hasMore, end, total: page.totalCount, beyond: undefined, loaded: true });
        const last = page.nodes.at(-1);
        if (last) view.floor = first ? last.createdSeq : Math.min(view.floor, last.createdSeq);
        if (!mark) advance(seqOf(page.cursor), page);
      }
      touch();
    },

    /** Forget what the server told; what is seen stays until there is a page, what is pending as well. */
    reset() {
      nodes.clear();
      mark = null;
      half = true;
    },
    /** Forget what is seen and what is pending, too: the inbox is another one. */
    clear() {
      this.reset();
      operations = [];
      half = false;
      counters = NONE;
      for (const view of views) Object.assign(view, unloaded);
      touch();
    },

    /** @param {Operation} operation */
    begin(operation) {
      operations = [...operations, operation];
      touch();
    },
    /** The server did it at `cursor`, or (without one) did not. @param {Operation} operation @param {string} [cursor] */
    end(operation, cursor) {
      const { seq } = seqOf(cursor);
      if (mark && seq > mark.seq) operation.done = seq;
      else operations = operations.filter((each) => each !== operation);
      touch();
    },
    /** Return how a view looks now; its list is the same object while what it holds is.
     * @param {View} view @returns {ViewSnapshot} */
    look(view) {
      const { filter, floor, hasMore, loading, loaded, total } = view;
      const items = half ? view.items : [...projected().nodes.values()]
        .filter((node) => (!hasMore || node.createdSeq >= floor) && matches(filter, node))
        .sort((a, b) => b.createdSeq - a.createdSeq);
      const same = items.length === view.items.length && items.every((item, at) => item === view.items[at]);
      if (!same) view.items = Object.freeze(items);
      if (!hasMore) view.beyond = 0;
      const totalCount = items.length + (view.beyond ??= Math.max(0, total - items.length));
      return { items: view.items, totalCount, hasMore: hasMore && loaded, loading, loaded };
    },
  };
}
