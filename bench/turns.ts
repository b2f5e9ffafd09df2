/** Measuring at several sizes, in turns. */

/**
 * Nanoseconds of this process's processors that `act` takes, the collector's threads included. A
 * growth is one of work: on a machine that others use, the clock would show their load.
 */
export function nanoseconds(act: () => unknown): number {
  const begun = process.cpuUsage();
  act();
  const { user, system } = process.cpuUsage(begun);
  return (user + system) * 1e3;
}

/** Values of a cost by size: one list of rounds for each. */
export type Rounds = readonly (readonly number[])[];

/**
 * Measures all sizes once in each round, so that a change of the machine's load hits all of them.
 * The first round, in which V8 compiles, does not count.
 *
 * @param costs the costs of one unit of work at a size, by their names
 */
export function inTurns<Name extends string>(
  sizes: readonly number[],
  rounds: number,
  costs: (size: number) => Record<Name, number>,
): Record<Name, Rounds> {
  const found: Partial<Record<Name, number[][]>> = {};
  for (let round = 0; round <= rounds; round++) {
    for (const [i, size] of sizes.entries()) {
      const measured = Object.entries(costs(size)) as [Name, number][];
      if (round === 0) continue;
      for (const [name, value] of measured) {
        found[name] ??= sizes.map(() => []);
        found[name][i]!.push(value);
      }
    }
  }
  return found as Record<Name, Rounds>;
}
