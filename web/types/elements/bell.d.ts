import { CarillonElement } from "./base.js";
export declare class CarillonBell extends CarillonElement {
    #private;
    build(): void;
    disconnectedCallback(): void;
    /** Open or close the panel. Opened: everything so far has been seen. */
    toggle(): void;
    /** @param {boolean} [back] the focus returns to the bell */
    close(back?: boolean): void;
    /** @param {import("../core/types.js").Notification} item */
    created(item: import("../core/types.js").Notification): void;
    show(): void;
}
