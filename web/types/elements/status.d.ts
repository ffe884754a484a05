import { CarillonElement } from "./base.js";
export declare class CarillonStatus extends CarillonElement {
    #private;
    build(): void;
    show(): void;
}
/**
 * A line that says what is wrong: what was refused, or what becomes of what one does offline.
 * @param {CarillonElement} host
 */
export declare function createNote(host: CarillonElement): {
    node: HTMLDivElement;
    show(): void;
};
