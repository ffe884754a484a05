import type { Notification } from "../core/types.js";
/** @import { Notification } from "../core/types.js" */
import { CarillonElement } from "./base.js";
export declare class CarillonToasts extends CarillonElement {
    #private;
    build(): void;
    connect(): Promise<void>;
    disconnectedCallback(): void;
    /** @param {Notification} item */
    created(item: Notification): void;
}
