/**
 * The most that a printer writes of one event. Texts and fields come from models, peers and files;
 * an output, and a reader of one line, must not grow without bound because of one of them.
 */

/** Characters of a text. */
const TEXT_CHARS = 16_384;
/** Bytes of `bytes` or `data`: a whole DMA of a page list, or a whole vfio-user message, fits. */
const DATA_BYTES = 2 * 2 ** 20;
/** Fields of a record. */
const RECORD_FIELDS = 64;
/** Characters of a text in a record, and of its names. */
const RECORD_CHARS = 1024;

/** A text as it is written: cut where it is longer than `most`. */
export function boundedText(text: string, most = TEXT_CHARS): string {
  return text.length <= most ? text : `${text.slice(0, most)}…`;
}

export function boundedBytes(bytes: Uint8Array, most = DATA_BYTES): Uint8Array {
  return bytes.length <= most ? bytes : bytes.subarray(0, most);
}

/** The fields of a record as they are written. */
export function boundedFields<T>(record: Readonly<Record<string, T>>): [name: string, value: T | string][] {
  const fields = Object.entries(record).slice(0, RECORD_FIELDS);
  return fields.map(([name, value]) => [
    boundedText(name, RECORD_CHARS),
    typeof value === 'string' ? boundedText(value, RECORD_CHARS) : value,
  ]);
}
