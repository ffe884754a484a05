/** @param {string} text */
export declare function css(text: string): CSSStyleSheet;
/** What all elements need; articles and the inbox bring the rest. */
export declare const sheet: CSSStyleSheet;
