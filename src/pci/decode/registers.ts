/** Capabilities that are registers at fixed places, as data. */
import type { CapabilityDecoder } from '../decode-capabilities.ts';
import type { Choices } from '../decode-text.ts';

export interface Register {
  readonly name: string;
  readonly at: number;
  /** Bytes. Default: 4. */
  readonly width?: 2 | 4;
  /** Templates of its lines (decode-text.ts): the name stands before the first. */
  readonly lines: readonly string[];
  /** The name is padded to this many characters. Default: its length and a colon. */
  readonly pad?: number;
  /** The start of the further lines. Default: two spaces. */
  readonly indent?: string;
}

/** A register that does not fit into config space is left out. */
export function registers(title: string, table: readonly Register[], choices: Choices = {}): CapabilityDecoder {
  return (r, whole) => {
    const d = whole.with(choices);
    for (const { name, at, width = 4, lines, pad = 0, indent = '\t  ' } of table) {
      if (!r.has(at, width)) continue;
      const value = width === 2 ? r.u16(at) : r.u32(at);
      lines.forEach((line, i) => {
        d.line(name, value, i === 0 ? `\t\t${`${name}:`.padEnd(pad)} ${line}` : `\t\t${indent}${line}`);
      });
    }
    return { title };
  };
}
