/**
 * C structures as declarations: `struct('vfio_group_status', 8, { argsz: 'u32', flags: 'u32' })`.
 *
 * The layout is the C ABI's natural alignment, but holes must be declared as fields. A declaration
 * that leaves a hole, or whose size differs from the stated one, fails at load. Each field is an
 * accessor closed over a constant offset. `get` allocates nothing, except the bigint of a u64.
 */
export type FieldType = 'u8' | 'u16' | 'u32' | 's32' | 'u64';

export type FieldValue<T extends FieldType> = T extends 'u64' ? bigint : number;

export interface Field<T extends FieldType = FieldType> {
  readonly type: T;
  readonly offset: number;
  readonly size: number;
  /** First byte after the field: Linux's `offsetofend`, which defines a minsz. */
  readonly end: number;
  get(view: DataView, base: number): FieldValue<T>;
  set(view: DataView, base: number, value: FieldValue<T>): void;
}

type Fields = Readonly<Record<string, FieldType>>;

export type Value<S> = S extends Struct<infer F> ? { -readonly [K in keyof F]: FieldValue<F[K]> } : never;

export type Struct<F extends Fields> = {
  readonly [K in keyof F]: Field<F[K]>;
} & {
  readonly structName: string;
  /** Bytes. The name is not `size`, because many of the structures have a field of that name. */
  readonly structSize: number;
  /** Decode every field into a fresh object. Only control paths use it. */
  decode(view: DataView, base?: number): { -readonly [K in keyof F]: FieldValue<F[K]> };
  /** Write the given fields; the others keep their bytes. */
  encode(view: DataView, base: number, values: Partial<{ [K in keyof F]: FieldValue<F[K]> }>): void;
};

const ownNames = new Set(['structName', 'structSize', 'decode', 'encode']);

const sizes = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8 } as const;

function makeField(type: FieldType, offset: number): Field {
  const size = sizes[type];
  const common = { type, offset, size, end: offset + size };
  switch (type) {
    case 'u8':
      return { ...common, get: (v, b) => v.getUint8(b + offset), set: (v, b, x) => v.setUint8(b + offset, x as number) };
    case 'u16':
      return { ...common, get: (v, b) => v.getUint16(b + offset, true), set: (v, b, x) => v.setUint16(b + offset, x as number, true) };
    case 'u32':
      return { ...common, get: (v, b) => v.getUint32(b + offset, true), set: (v, b, x) => v.setUint32(b + offset, x as number, true) };
    case 's32':
      return { ...common, get: (v, b) => v.getInt32(b + offset, true), set: (v, b, x) => v.setInt32(b + offset, x as number, true) };
    case 'u64':
      return {
        ...common,
        get: (v, b) => v.getBigUint64(b + offset, true),
        set: (v, b, x) => v.setBigUint64(b + offset, x as bigint, true),
      };
  }
}

/** @param size the structure's size in the header file, checked at load */
export function struct<const F extends Fields>(structName: string, size: number, fields: F): Struct<F> {
  const made: Record<string, Field> = {};
  let at = 0;
  for (const [name, type] of Object.entries(fields)) {
    if (ownNames.has(name)) throw new Error(`${structName}.${name}: this name is taken by the declaration itself`);
    if (at % sizes[type] !== 0) throw new Error(`${structName}.${name}: offset ${at} is not aligned to ${sizes[type]}; declare the hole`);
    made[name] = makeField(type, at);
    at += sizes[type];
  }
  if (at !== size) throw new Error(`${structName}: fields take ${at} bytes, declared ${size}`);
  const names = Object.keys(made);
  return {
    ...made,
    structName,
    structSize: size,
    decode(view: DataView, base = 0) {
      const out: Record<string, number | bigint> = {};
      for (const name of names) out[name] = made[name]!.get(view, base);
      return out;
    },
    encode(view: DataView, base: number, values: Record<string, number | bigint | undefined>) {
      for (const name of names) {
        const value = values[name];
        if (value !== undefined) made[name]!.set(view, base, value as never);
      }
    },
  } as unknown as Struct<F>;
}
