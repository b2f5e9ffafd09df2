/**
 * Text for a terminal, a log or a capture. Names may come from peers, files and models. Characters
 * that move a cursor, change the order of letters or begin a line become the escape that a string
 * literal would have.
 */

/**
 * C0 except the tab, DEL, C1; line and paragraph separators; marks, embeddings, overrides and
 * isolates of direction; halves of a surrogate pair.
 */
const CONTROLS =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for them
  /[\0-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const NAMED: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r' };

function escaped(character: string): string {
  const code = character.charCodeAt(0);
  return NAMED[character] ?? (code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`);
}

/** One line of text. The function leaves its own results unchanged. */
export function printable(text: string): string {
  return text.replace(CONTROLS, escaped);
}

/**
 * A text of several lines, such as a stack. Lines after the first are indented, so that none can
 * pass for a message of its own.
 */
export function printableLines(text: string): string[] {
  return text.split('\n').map((line, i) => (i === 0 ? '' : '    ') + printable(line));
}

/**
 * JSON text. JSON.stringify leaves such characters as they are; here they become JSON's own
 * escapes. Line breaks of the layout stay.
 */
export function printableJson(json: string): string {
  return json.replace(CONTROLS, (character) => (character === '\n' ? '\n' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`));
}
