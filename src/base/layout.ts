/**
 * Data structures as specifications print them: fields at stated offsets, with room between them
 * that is reserved.
 *
 *     const Slot = layout('Firmware Slot Information', 512, { afi: u8(0), frs1: text(8, 8) });
 *     Slot.frs1.get(view)              // '1.0'
 *
 * struct.ts is for structures without holes, laid out by a C compiler. Fields are little-endian.
 * They need not be aligned.
 */

/** One field. `base` is the offset of its structure in the view. */
export interface LayoutField<T> {
  readonly offset: number;
  readonly size: number;
  get(view: DataView, base?: number): T;
  set(view: DataView, value: T, base?: number): void;
}

type Fields = Readonly<Record<string, LayoutField<unknown>>>;
type ValueOf<F> = F extends LayoutField<infer T> ? T : never;

export type Layout<F> = F & {
  readonly layoutName: string;
  /** Bytes. */
  readonly layoutSize: number;
  /** Every field, in a fresh object. Only control paths use it. */
  decode(view: DataView, base?: number): { -readonly [K in keyof F]: ValueOf<F[K]> };
  /** Writes the given fields. All other bytes stay. */
  encode(view: DataView, values: { readonly [K in keyof F]?: ValueOf<F[K]> }, base?: number): void;
};

/** The result of a layout's `decode`. */
export type LayoutValue<L> = L extends { decode(view: DataView): infer V } ? V : never;

/** @throws Error naming a field that does not lie within `size`, or that overlaps another */
export function layout<const F extends Record<string, LayoutField<unknown>>>(layoutName: string, layoutSize: number, fields: F): Layout<F> {
  const sorted = Object.entries(fields as Fields).sort(([, a], [, b]) => a.offset - b.offset);
  let end = 0;
  for (const [name, field] of sorted) {
    if (field.offset < end) throw new Error(`${layoutName}.${name}: byte ${field.offset} belongs to another field already`);
    end = field.offset + field.size;
    if (end > layoutSize) throw new Error(`${layoutName}.${name}: ends at ${end}, past the structure's ${layoutSize} bytes`);
  }
  return {
    ...fields,
    layoutName,
    layoutSize,
    decode(view: DataView, base = 0) {
      const out: Record<string, unknown> = {};
      for (const name in fields) out[name] = fields[name]!.get(view, base);
      return out;
    },
    encode(view: DataView, values: Record<string, unknown>, base = 0) {
      for (const name in fields) if (values[name] !== undefined) fields[name]!.set(view, values[name], base);
    },
  } as unknown as Layout<F>;
}

export function u8(offset: number): LayoutField<number> {
  return {
    offset,
    size: 1,
    get: (view, base = 0) => view.getUint8(base + offset),
    set: (view, value, base = 0) => view.setUint8(base + offset, value),
  };
}

export function u16(offset: number): LayoutField<number> {
  return {
    offset,
    size: 2,
    get: (view, base = 0) => view.getUint16(base + offset, true),
    set: (view, value, base = 0) => view.setUint16(base + offset, value, true),
  };
}

export function u32(offset: number): LayoutField<number> {
  return {
    offset,
    size: 4,
    get: (view, base = 0) => view.getUint32(base + offset, true),
    set: (view, value, base = 0) => view.setUint32(base + offset, value, true),
  };
}

export function u64(offset: number): LayoutField<bigint> {
  return {
    offset,
    size: 8,
    get: (view, base = 0) => view.getBigUint64(base + offset, true),
    set: (view, value, base = 0) => view.setBigUint64(base + offset, value, true),
  };
}

/** 16 bytes, for counters and capacities that may need more than 64 bits. */
export function u128(offset: number): LayoutField<bigint> {
  return {
    offset,
    size: 16,
    get: (view, base = 0) => view.getBigUint64(base + offset, true) | (view.getBigUint64(base + offset + 8, true) << 64n),
    set(view, value, base = 0) {
      view.setBigUint64(base + offset, BigInt.asUintN(64, value), true);
      view.setBigUint64(base + offset + 8, BigInt.asUintN(64, value >> 64n), true);
    },
  };
}

/**
 * ASCII text. `get` leaves out the padding at the end. `set` pads with spaces, cuts to `size`, and
 * writes `?` for characters that are not printable.
 */
export function text(offset: number, size: number): LayoutField<string> {
  return characters(offset, size, 0x20);
}

/** Like `text`, but ended and padded with NUL. */
export function cString(offset: number, size: number): LayoutField<string> {
  return characters(offset, size, 0);
}

function characters(offset: number, size: number, padding: number): LayoutField<string> {
  return {
    offset,
    size,
    get(view, base = 0) {
      let end = size;
      if (padding === 0) {
        end = 0;
        while (end < size && view.getUint8(base + offset + end) !== 0) end++;
      }
      let out = '';
      for (let i = 0; i < end; i++) {
        const c = view.getUint8(base + offset + i);
        out += c >= 0x20 && c < 0x7f ? String.fromCharCode(c) : c === 0 ? ' ' : '?';
      }
      return padding === 0 ? out : out.trimEnd();
    },
    set(view, value, base = 0) {
      for (let i = 0; i < size; i++) {
        const c = i < value.length && (padding !== 0 || i < size - 1) ? value.charCodeAt(i) : padding;
        view.setUint8(base + offset + i, c === padding || (c >= 0x20 && c < 0x7f) ? c : 0x3f);
      }
    },
  };
}

/** Plain bytes: `get` gives a copy; `set` takes at most `size` and fills the rest with zeroes. */
export function byteArray(offset: number, size: number): LayoutField<Uint8Array> {
  const at = (view: DataView, base: number) => new Uint8Array(view.buffer, view.byteOffset + base + offset, size);
  return {
    offset,
    size,
    get: (view, base = 0) => at(view, base).slice(),
    set(view, value, base = 0) {
      const into = at(view, base);
      into.fill(0);
      into.set(value.subarray(0, size));
    },
  };
}

/**
 * `count` numbers, one after another, each made by `element`, whose offsets count from the array's
 * start.
 */
export function arrayOf(offset: number, count: number, element: (offset: number) => LayoutField<number>): LayoutField<number[]> {
  const elements = Array.from({ length: count }, (_, i) => element(offset + i * element(0).size));
  return {
    offset,
    size: count * element(0).size,
    get: (view, base = 0) => elements.map((e) => e.get(view, base)),
    set: (view, value, base = 0) => elements.forEach((e, i) => void e.set(view, value[i] ?? 0, base)),
  };
}
