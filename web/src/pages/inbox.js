// One person's inbox as the server tells it: a page, and every change after it by the contract's rule.

/** Split `<epoch>-<seq>`. */
function parts(cursor) {
  const [epoch, seq] = cursor.split("-").map(Number);
  return { epoch, seq };
}

/** Items are replaced, never changed in place, so that whoever shows them sees by identity what is new. */
export class Inbox {
  constructor() {
    this.items = new Map();
    this.unreadCount = 0;
    this.unseenCount = 0;
    this.cursor = null;
    this.endCursor = null;
    this.hasMore = false;
  }

  /** Newest first. */
  get list() {
    return [...this.items.values()].sort((a, b) => b.createdSeq - a.createdSeq);
  }

  /** Take the first page: it replaces everything, and the mark is where it was read. */
  replace(page) {
    this.items = new Map(page.nodes.map((node) => [node.id, node]));
    this.#paged(page);
    this.#counted(page);
    this.cursor = page.cursor;
  }

  /** Take a further page. Its counters are of its own moment, the frames' are the ones that count. */
  append(page) {
    for (const node of page.nodes) this.#put(node);
    this.#paged(page);
  }

  /** Apply a frame with an id. Returns "applied", "dropped", or "gap": then the changes since `cursor` must be read. */
  apply(id, data) {
    const [mark, next] = [parts(this.cursor), parts(id)];
    if (next.epoch !== mark.epoch || (data.prev !== mark.seq && next.seq > mark.seq)) return "gap";
    if (next.seq <= mark.seq) return "dropped";
    this.#change(data, next.seq);
    this.#counted(data);
    this.cursor = id;
    return "applied";
  }

  /** Take the end of a replay, or of `/changes`: nothing is missing up to there. */
  advance(cursor, data) {
    this.cursor = cursor;
    this.#counted(data);
  }

  #paged(page) {
    this.hasMore = page.pageInfo.hasNextPage;
    this.endCursor = page.pageInfo.endCursor;
  }

  #counted(data) {
    this.unreadCount = data.unreadCount;
    this.unseenCount = data.unseenCount;
  }

  #put(node) {
    const known = this.items.get(node.id);
    if (known !== undefined && known.seq >= node.seq) return;
    if (node.archivedAt !== null) this.items.delete(node.id);
    else this.items.set(node.id, node);
  }

  /** What lies beyond the last page is not shown before it is asked for. */
  #isBeyond(node) {
    const shown = this.list;
    return this.hasMore && shown.length > 0 && node.createdSeq < shown[shown.length - 1].createdSeq;
  }

  #change(data, seq) {
    const told = data.notifications ?? (data.notification ? [data.notification] : []);
    for (const node of told) {
      if (this.items.has(node.id) || !this.#isBeyond(node)) this.#put(node);
    }
    for (const id of data.deletedIds ?? []) this.items.delete(id);
    this.#marked(data, seq);
  }

  #marked(data, seq) {
    const one = data.notificationId;
    switch (data.type) {
      case "read":
      case "unread":
      case "seen":
        return this.#set((item) => item.id === one, seq, times(data));
      case "archived":
        return this.#remove((item) => item.id === one);
      case "read_all":
        return this.#set(upTo(data, (item) => !item.read), seq, { read: true, readAt: data.readAt });
      case "seen_all":
        return this.#set(upTo(data, (item) => item.seenAt === null), seq, { seenAt: data.seenAt });
      case "deleted":
        return this.#remove((item) => item.id === one || data.notificationIds.includes(item.id));
      case "deleted_read":
        return this.#remove(upTo(data, (item) => item.read));
      default:
        return undefined;
    }
  }

  #set(concerned, seq, fields) {
    for (const item of this.items.values()) {
      if (item.seq < seq && concerned(item)) this.items.set(item.id, { ...item, seq, ...fields });
    }
  }

  #remove(concerned) {
    for (const item of this.items.values()) {
      if (concerned(item)) this.items.delete(item.id);
    }
  }
}

/** The marks that a frame carries; read follows from its time. */
function times(data) {
  const { readAt = null, seenAt = readAt } = data;
  return { readAt, seenAt, read: readAt !== null };
}

/** Bulk changes concern what was created up to their bound. */
function upTo(data, concerned) {
  const { seq } = parts(data.upTo);
  return (item) => item.createdSeq <= seq && concerned(item);
}
