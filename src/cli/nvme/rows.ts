/**
 * The fields of a controller's structure: the name in the specification, the value, and its
 * meaning.
 */
export type Row = readonly [field: string, value: string, meaning: string];

/** Aligned for people. */
export function rowLines(rows: readonly Row[], indent = '  '): string[] {
  const names = Math.max(...rows.map(([field]) => field.length));
  const values = Math.min(Math.max(...rows.map(([, value, meaning]) => (meaning === '' ? 0 : value.length))), 24);
  return rows.map(([field, value, meaning]) =>
    `${indent}${field.padEnd(names)}  ${meaning === '' ? value : `${value.padEnd(values)}  ${meaning}`}`.trimEnd(),
  );
}

/**
 * The names of the bits that are set: `Format, Doorbell Buffer`. Bits without a name appear as
 * their number.
 */
export function bitNames(value: number, names: Readonly<Record<number, string>>): string {
  const set: string[] = [];
  for (let bit = 0; bit < 32; bit++) if ((value >>> bit) & 1) set.push(names[bit] ?? `bit ${bit}`);
  return set.length === 0 ? 'none' : set.join(', ');
}

/** `c0 ff ee` as `c0ffee`. */
export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * A decoded structure for a JSON document: whole numbers where JSON can hold them, bytes as
 * hexadecimal.
 */
export function plain(decoded: object): Record<string, unknown> {
  const value = (v: unknown): unknown => {
    if (typeof v === 'bigint') return v <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(v) : String(v);
    return v instanceof Uint8Array ? hexOf(v) : v;
  };
  return Object.fromEntries(Object.entries(decoded).map(([field, v]) => [field, value(v)]));
}
