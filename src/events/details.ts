/**
 * The stream's own copy of an event's fields. Texts may be as long as a model, a peer or a guest
 * makes them; the stream keeps as much of them as a printer writes.
 */

/** The most that is kept of one event. */
interface Bounds {
  /** Characters of a text. */
  readonly text: number;
  /** Fields of a command. */
  readonly fields: number;
  /** Characters of their names and values. */
  readonly field: number;
}

const FULL: Bounds = { text: 16_384, fields: 64, field: 1024 };
/** Where long texts fill their share of the stream's memory. */
const SHORT: Bounds = { text: 256, fields: 8, field: 64 };

/** @throws what getters of `details` throw */
export function ownDetails(details: object, short = false): object {
  const bounds = short ? SHORT : FULL;
  const own: Record<string, unknown> = { ...details };
  for (const name in own) {
    const value = own[name];
    if (typeof value === 'string') own[name] = cut(value, bounds.text);
    else if (name === 'fields' && typeof value === 'object' && value !== null) own[name] = record(value, bounds);
  }
  return own;
}

function record(fields: object, { fields: most, field }: Bounds): object {
  const own: [string, unknown][] = [];
  for (const [name, value] of Object.entries(fields).slice(0, most)) {
    own.push([cut(name, field), typeof value === 'string' ? cut(value, field) : value]);
  }
  return Object.fromEntries(own);
}

/**
 * A text, cut to `most` characters. V8's `slice` would keep the whole: a copy goes through bytes.
 */
export function cut(text: string, most: number): string {
  return text.length <= most ? text : `${Buffer.from(text.slice(0, most), 'utf16le').toString('utf16le')}…`;
}

/** Characters of the texts of `ownDetails`. */
export function charsOf(own: object): number {
  let chars = 0;
  for (const value of Object.values(own)) {
    if (typeof value === 'string') chars += value.length;
    else if (typeof value === 'object' && value !== null && !(value instanceof Uint8Array)) {
      for (const [name, each] of Object.entries(value)) chars += name.length + (typeof each === 'string' ? each.length : 0);
    }
  }
  return chars;
}
