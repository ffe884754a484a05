import type { Message, TabParts } from "./types.js";
/** @param {TabParts} parts */
export declare function createTabs({ key, clock, lead, follow, received, state }: TabParts): {
    post: (message: Message) => undefined;
    readonly leading: boolean;
    /** Let go of everything. */
    close(): void;
};
