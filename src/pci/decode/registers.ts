/** Capabilities that are registers at fixed places, as data. */
import type { CapabilityDecoder } from '../capabilities/kind.ts';

export interface Register {
  readonly name: string;
  readonly at: number;
  /** Bytes. Default: 4. */
  readonly width?: 2 | 4;
  /** Templates of its lines (text.ts): the name stands before the first. */
  readonly lines: readonly string[];
  /** Between the name and its first line. Default: a space. */
  readonly gap?: string;
  /** The name is padded to this many characters. Default: its length and a colon. */
  readonly pad?: number;
  /** The start of the further lines. Default: two spaces. */
  readonly indent?: string;
}

/** A register that does not fit into config space is left out. */
export function registers(title: string, table: readonly Register[]): CapabilityDecoder {
  return (r, d) => {
    for (const { name, at, width = 4, lines, gap = ' ', pad = 0, indent = '\t  ' } of table) {
      if (!r.has(at, width)) continue;
      const value = width === 2 ? r.u16(at) : r.u32(at);
      lines.forEach((line, i) => {
        d.line(name, value, i === 0 ? `\t\t${`${name}:`.padEnd(pad)}${gap}${line}` : `\t\t${indent}${line}`);
      });
    }
    return { title };
  };
}
