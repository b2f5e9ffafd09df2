/** The functions of a computer with their users, and whether each can be given away. */
import type { HostFiles } from '../sys/host-files.ts';
import { isPlatform } from './bind-plan.ts';
import { type FunctionState, functionStates, groupNode, groupsOf } from './function-state.ts';
import { type NodeUser, nodeUsers } from './node-users.ts';
import { type Stake, type StakeOptions, stakesOf } from './stakes.ts';

export interface ListedFunction extends FunctionState {
  readonly users: readonly NodeUser[];
  /** Reasons why the computer needs it, and remarks. */
  readonly stakes: readonly Stake[];
  /**
   * `needed`: the computer needs it, or another function of its group. `used`: a process has it or
   * another function of its group open through VFIO. `bridge`: it is not given away. `no-iommu`:
   * no IOMMU isolates it. `free`: a user can have it.
   */
  readonly state: 'needed' | 'used' | 'bridge' | 'no-iommu' | 'free';
}

export interface ListedGroup {
  readonly id: number;
  readonly node: string;
  readonly functions: readonly string[];
  /** True when no function of it is needed. */
  readonly safe: boolean;
}

export interface HostList {
  readonly functions: readonly ListedFunction[];
  readonly groups: readonly ListedGroup[];
}

export function hostList(files: HostFiles, options: StakeOptions = {}): HostList {
  const states = functionStates(files);
  const stakes = stakesOf(files, options);
  const users = nodeUsers(files, states);
  const groups = groupsOf(states);
  const isNeeded = ({ bdf }: FunctionState) => stakes.get(bdf)?.some(({ severe }) => severe) === true;
  const isUsed = ({ bdf }: FunctionState) => users.get(bdf)?.some(({ node }) => node.startsWith('/dev/vfio/')) === true;
  const stateOf = (fn: FunctionState): ListedFunction['state'] => {
    if (isPlatform(fn)) return 'bridge';
    const together = fn.group === null ? [fn] : groups.get(fn.group)!;
    if (together.some(isNeeded)) return 'needed';
    if (together.some(isUsed)) return 'used';
    return fn.group === null ? 'no-iommu' : 'free';
  };
  return {
    functions: states.map((fn) => ({ ...fn, users: users.get(fn.bdf) ?? [], stakes: stakes.get(fn.bdf) ?? [], state: stateOf(fn) })),
    groups: [...groups].map(([id, members]) => ({
      id,
      node: groupNode(files, id),
      functions: members.map(({ bdf }) => bdf),
      safe: !members.some(isNeeded),
    })),
  };
}
