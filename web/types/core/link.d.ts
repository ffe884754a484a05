import type { LinkParts } from "./types.js";
/** `connect` returns it where another page holds the stream: nothing is attempted until `wake`. */
export declare const FOLLOWING: unique symbol;
/** @param {LinkParts} parts */
export declare function createLink({ clock, random, connect, poll, streams, told }: LinkParts): {
    /** Do now what waits for its time; a stream or an attempt is left alone. @param {boolean} [begin] also after a stop */
    wake(begin?: boolean): void;
    /** End everything without a word. Again: nothing. */
    stop: () => void;
    /** The connection turned out to be of no use. */
    cut: () => void | undefined;
    tell: () => void;
};
