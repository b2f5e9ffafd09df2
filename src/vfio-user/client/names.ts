/** Names of numbers of VFIO, for events. */

/** The name of a number in a table of `abi/vfio.ts`; the number where it has none. */
export function nameIn(table: Readonly<Record<string, number>>, number: number): string {
  return Object.keys(table).find((name) => table[name] === number) ?? String(number);
}
