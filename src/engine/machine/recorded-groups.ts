/** The isolation groups that a computer was found with, for a machine that is made of it. */
import { checkIndex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { LowestFree, type Numbers } from '../../base/numbers.ts';
import { compareBdf, parseBdf } from '../../pci/bdf.ts';
import type { GroupSpec } from './machine-spec.ts';
import type { IsolationClass, TopologyNode } from './topology.ts';

const MAX_ID = 0x7fff_ffff;

/** @throws VfioError EINVAL for no group; EEXIST for a number or a function that is there twice */
export function recordedGroups(specs: readonly GroupSpec[] | undefined): RecordedGroups | null {
  if (specs === undefined) return null;
  if (!Array.isArray(specs)) throw new VfioError('EINVAL', '`groups` is not a list of groups');
  const groupOf = new Map<string, number>();
  const ids = new Set<number>();
  for (const { id, functions } of specs as readonly GroupSpec[]) {
    checkIndex(id, MAX_ID, 'number of a group');
    if (ids.has(id)) throw new VfioError('EEXIST', `group ${id} is declared twice`);
    ids.add(id);
    for (const at of functions) {
      const bdf = parseBdf(at);
      const other = groupOf.get(bdf);
      if (other !== undefined) throw new VfioError('EEXIST', `${bdf} is in group ${other} and in group ${id}`);
      groupOf.set(bdf, id);
    }
  }
  return new RecordedGroups(groupOf, ids);
}

export class RecordedGroups {
  readonly #groupOf: ReadonlyMap<string, number>;
  readonly #ids: ReadonlySet<number>;
  /** Functions that were there without a group when the machine was made. */
  readonly #alone = new Set<string>();
  #first = true;

  constructor(groupOf: ReadonlyMap<string, number>, ids: ReadonlySet<number>) {
    this.#groupOf = groupOf;
    this.#ids = ids;
  }

  /**
   * The recorded groups, in place of the classes `found` in the fabric, which give the reasons.
   * Functions that are plugged in later are in the classes of the fabric.
   */
  classes<N extends TopologyNode>(found: readonly IsolationClass<N>[]): IsolationClass<N>[] {
    const members = new Map<number, N[]>();
    const others: IsolationClass<N>[] = [];
    const reasons = new Map<N, string>();
    for (const one of found) {
      for (const [fn, why] of one.reasons) reasons.set(fn, why);
      const free: N[] = [];
      for (const fn of one.members) {
        const id = this.#groupOf.get(fn.bdf);
        if (id === undefined && this.#first) this.#alone.add(fn.bdf);
        if (id === undefined) {
          if (!this.#alone.has(fn.bdf)) free.push(fn);
          continue;
        }
        const there = members.get(id);
        if (there === undefined) members.set(id, [fn]);
        else there.push(fn);
      }
      // A function that comes later joins the group of a function that it is tied to.
      const tied = one.members.map((fn) => this.#groupOf.get(fn.bdf)).find((id) => id !== undefined);
      if (free.length === 0) continue;
      if (tied === undefined) others.push({ members: free, reasons: one.reasons });
      else members.get(tied)!.push(...free);
    }
    this.#first = false;
    const recorded = [...members.values()].map((list) => {
      const inOrder = list.sort((a, b) => compareBdf(a.bdf, b.bdf));
      const why = inOrder.slice(1).map((fn) => [fn, reasons.get(fn) ?? this.#because(fn)] as const);
      return { members: inOrder, reasons: new Map(why) };
    });
    return [...recorded, ...others];
  }

  #because(fn: TopologyNode): string {
    return `the computer has it in group ${this.#groupOf.get(fn.bdf)}; its registers as they are known give no reason`;
  }

  /** The recorded numbers; functions of no recorded group get the lowest free one. */
  numbers(): Numbers {
    const free = new LowestFree();
    const taken = new Set<number>();
    return {
      take: (user) => {
        const id = this.#groupOf.get(user);
        if (id !== undefined && !taken.has(id)) {
          taken.add(id);
          return id;
        }
        let number = free.take();
        while (this.#ids.has(number)) number = free.take();
        return number;
      },
      release: (number) => {
        if (!taken.delete(number)) free.release(number);
      },
    };
  }
}
