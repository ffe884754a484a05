import type { Notification } from "../core/types.js";
import type { CarillonElement } from "./base.js";
/** Tell a time as "5 minutes ago"; less than a minute is "now". @param {string} time @param {string} locale */
export declare function ago(time: string, locale: string): string;
/** The address of an action, checked again: a path of this host or http(s); else there is none. @param {string | null} url */
export declare function safe(url: string | null): string | null;
/**
 * @param {CarillonElement} host whose client does what is asked for, and from which `carillon-open` bubbles
 * @param {Notification} first
 */
export declare function createRow(host: CarillonElement, first: Notification): {
    node: HTMLElement;
    tick: () => undefined;
    /** @param {Notification} next */
    set: (next: Notification) => undefined;
};
/**
 * Keep the articles of `list` those of `items`, in their order. What is new is marked as arrived, but not at first.
 * @param {CarillonElement} host @param {Element} list @param {readonly Notification[]} items @param {boolean} moving whether what is new arrives visibly
 */
export declare function keep(host: CarillonElement, list: Element, items: readonly Notification[], moving: boolean): void;
