/**
 * How a message reads: its structures, and words made of their fields. A shape is plain data, so
 * that `vfio trace` (words.ts) and the dissector for Wireshark (tools/vfio-user.lua, which holds
 * the shapes of the table as Lua tables) print the same words.
 *
 *     { structs: [DmaAccess], words: [hex(DmaAccess.address), ', ', dec(DmaAccess.count)] }
 *
 * A shape is more lenient than the decoder of its message: it shows what a server would refuse.
 */
import type { Field } from '../../base/struct.ts';

/** Names of numbers, or of bits. */
export type Names = Readonly<Record<string, number>>;

/** A number at byte `at` of the payload; in `each`, of the element. */
export interface Ref {
  readonly at: number;
  readonly bytes: number;
}

/** The part of a `Struct` that a shape needs. */
export interface AnyStruct {
  readonly structName: string;
  readonly structSize: number;
}

/**
 * Structures at byte `at` of the payload, one after the other, which must be there, and the words
 * about them.
 */
export interface Shape {
  /** Default: 0. */
  readonly at?: number;
  /** Default: none. */
  readonly structs?: readonly AnyStruct[];
  readonly words: readonly Word[];
}

/** A condition on the payload. A mask has 32 bits at most. */
export type Test =
  | { readonly kind: 'bits'; readonly ref: Ref; readonly mask: number; readonly is: number }
  | { readonly kind: 'zero'; readonly ref: Ref }
  /** The payload has more than so many bytes. */
  | { readonly kind: 'longer'; readonly than: number };

export interface Case {
  readonly test: Test;
  readonly shape: Shape;
}

export type Word =
  | string
  | { readonly kind: 'dec'; readonly ref: Ref }
  | { readonly kind: 'hex'; readonly ref: Ref }
  /** `0x1000-0x1fff` */
  | { readonly kind: 'range'; readonly ref: Ref; readonly size: Ref }
  /** The name of the number under `mask`; without a name, `otherwise` and the number. */
  | { readonly kind: 'name'; readonly ref: Ref; readonly mask: number; readonly names: Names; readonly otherwise: string }
  /** `read|write` */
  | { readonly kind: 'flags'; readonly ref: Ref; readonly names: Names }
  /** Data from byte `at` on: a register's value, or the first bytes of longer data. */
  | { readonly kind: 'value'; readonly at: number; readonly count: Ref | null; readonly most: number }
  /** Data from byte `at` on: its first bytes. */
  | { readonly kind: 'bytes'; readonly at: number; readonly count: Ref | null }
  /**
   * Text of a peer from byte `at` on, without characters that a terminal acts on, and without VF
   * tokens.
   */
  | { readonly kind: 'text'; readonly at: number }
  /** `vector 3`, `vectors 0 to 3`, `all` for a count of 0. */
  | { readonly kind: 'vectors'; readonly ref: Ref; readonly count: Ref }
  /**
   * A bitmap from byte `at` on, one bit a page of `page` bytes, the first at address `ref`: `2
   * pages dirty: 0x1000-0x2fff`.
   */
  | { readonly kind: 'dirty'; readonly at: number; readonly ref: Ref; readonly page: Ref }
  /**
   * `count` elements from byte `at` on. The layout is the one whose size divides the bytes that are
   * there into so many elements.
   */
  | { readonly kind: 'each'; readonly at: number; readonly count: Ref; readonly layouts: readonly Element[] }
  /** Capabilities of a region, from the byte that `ref` names on. */
  | { readonly kind: 'capabilities'; readonly ref: Ref }
  /** The first case that holds; nothing when none does. */
  | { readonly kind: 'pick'; readonly cases: readonly Case[] };

export interface Element {
  readonly struct: AnyStruct;
  readonly words: readonly Word[];
}

type Where = Pick<Field, 'offset' | 'size'>;

/** @param at where the field's structure starts */
export function ref(field: Where, at = 0): Ref {
  return { at: at + field.offset, bytes: field.size };
}

const U32 = 0xffff_ffff;

export const dec = (field: Where, at = 0): Word => ({ kind: 'dec', ref: ref(field, at) });
export const hex = (field: Where, at = 0): Word => ({ kind: 'hex', ref: ref(field, at) });
export const range = (first: Where, size: Where, at = 0): Word => ({ kind: 'range', ref: ref(first, at), size: ref(size, at) });
export const name = (field: Where, names: Names, otherwise: string, mask = U32): Word => ({
  kind: 'name',
  ref: ref(field),
  mask,
  names,
  otherwise,
});
export const flags = (field: Where, names: Names, at = 0): Word => ({ kind: 'flags', ref: ref(field, at), names });
export const value = (at: number, count: Ref | null = null, most = U32): Word => ({ kind: 'value', at, count, most });
export const bytes = (at: number, count: Ref | null = null): Word => ({ kind: 'bytes', at, count });
export const text = (at: number): Word => ({ kind: 'text', at });
export const vectors = (start: Where, count: Where): Word => ({ kind: 'vectors', ref: ref(start), count: ref(count) });
export const dirty = (at: number, first: Ref, page: Ref): Word => ({ kind: 'dirty', at, ref: first, page });
export const each = (at: number, count: Ref, ...layouts: Element[]): Word => ({ kind: 'each', at, count, layouts });
export const capabilities = (field: Where): Word => ({ kind: 'capabilities', ref: ref(field) });
export const pick = (...cases: Case[]): Word => ({ kind: 'pick', cases });

/** The bits of `mask` have the value `is`. */
export function bits(where: Ref, mask: number, is: number, ...words: Word[]): Case {
  return { test: { kind: 'bits', ref: where, mask, is }, shape: { words } };
}
export function zero(where: Ref, ...words: Word[]): Case {
  return { test: { kind: 'zero', ref: where }, shape: { words } };
}
export function longer(than: number, ...words: Word[]): Case {
  return { test: { kind: 'longer', than }, shape: { words } };
}
/** Holds always. */
export function otherwise(...words: Word[]): Case {
  return longer(-1, ...words);
}

export const DONE: Shape = { words: ['ok'] };
export const SILENT: Shape = { words: [] };
