import type { Filter } from "../core/types.js";
/** @import { Filter, Snapshot } from "../core/types.js" */
import { CarillonElement } from "./base.js";
export declare class CarillonInbox extends CarillonElement {
    #private;
    build(): void;
    disconnectedCallback(): void;
    /** Show what a filter lets through; an empty one is everything but the archive. @param {Filter} filter */
    filter(filter: Filter): void;
    show(): void;
}
