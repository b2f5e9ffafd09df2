/**
 * A file of sysfs: its content when a program opens it, and the effect of a write. The rows of
 * function-attributes.ts and its neighbours are made of these.
 *
 * @see linux/fs/sysfs/file.c; linux/fs/kernfs/file.c
 */

/** The result of a write: a promise where Linux makes the writer wait, as for `unbind`. */
export type Stored = void | Promise<void>;

export interface Attribute {
  /** Permissions, such as 0o644. */
  readonly mode: number;
  /** Bytes of a file that no process reads; others have their content's size. */
  readonly size?: number;
  /** The content never changes while the file is there. */
  readonly constant?: true;
  /** The content at open; null for a file that cannot be read. @throws VfioError */
  readonly show: (() => string | Uint8Array) | null;
  /** One write of the whole value, without its newline; null for a file that cannot be written. */
  readonly store: ((text: string) => Stored) | null;
  /** For a binary file: reads and writes at an offset, instead of `store`. */
  readonly binary?: BinaryAttribute;
}

export interface BinaryAttribute {
  /** @returns the count of bytes, 0 at the end @throws VfioError */
  read(offset: number, into: Uint8Array): number;
  /** @returns the count of bytes that were taken @throws VfioError */
  write(offset: number, bytes: Uint8Array): number;
}

/** A file that nothing changes. */
export function constant(text: string, mode = 0o444): Attribute {
  return { mode, constant: true, show: () => text, store: null };
}

/** A file that is read anew at each open. */
export function live(show: () => string, mode = 0o444): Attribute {
  return { mode, show, store: null };
}

/** A file that can be read and written. */
export function writable(show: () => string, store: (text: string) => Stored, mode = 0o644): Attribute {
  return { mode, show, store };
}

/** A file that can only be written. */
export function action(store: (text: string) => Stored, mode = 0o200): Attribute {
  return { mode, show: null, store };
}
