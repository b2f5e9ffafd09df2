/** Parts of an iommufd's surroundings, for tests. */
import { VfioError } from '../../src/base/errno.ts';
import type { IommuProperties } from '../../src/engine/dma/iommu-properties.ts';
import { type LockedAccount, OwnAccount } from '../../src/engine/dma/process.ts';
import type { IommufdOptions } from '../../src/engine/iommufd/iommufd.ts';
import type { ClaimableGroup } from '../../src/engine/iommufd/iommufd-device.ts';
import { linuxRules } from '../../src/engine/linux-version.ts';
import { EventStream } from '../../src/events/stream.ts';

/** An IOMMU like QEMU's VT-d. */
export const vtd: IommuProperties = {
  unit: {},
  kind: 'full',
  isolatedMsi: true,
  coherent: true,
  pageSizes: 0x4020_1000n,
  apertureFirst: 0n,
  apertureLast: 2n ** 48n - 1n,
  reserved: [{ first: 0xfee0_0000n, last: 0xfeef_ffffn, kind: 'msi' }],
};

/** A group without an owner. */
export function isolated(id: number, iommu: IommuProperties = vtd): ClaimableGroup {
  const group = {
    id,
    iommu,
    domain: null,
    owner: null as object | null,
    claim(owner: object) {
      group.owner = owner;
    },
    release() {
      group.owner = null;
    },
  };
  return group;
}

/** Accounts of users; every group may be bound. */
export function iommufdOptions(): IommufdOptions {
  const accounts = new Map<number, LockedAccount>();
  const users = (uid: number) => {
    const account = accounts.get(uid) ?? new OwnAccount(0);
    accounts.set(uid, account);
    return account;
  };
  return { events: new EventStream().iommufd(), linux: linuxRules(), users, checkInterrupts: () => {} };
}

/** Each call's answer, as a recording has it: the errno's name, or the result. */
export function answersOf(calls: Readonly<Record<string, () => unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(calls).map(([name, call]) => [name, answerOf(call)]));
}

function answerOf(call: () => unknown): string {
  try {
    const result = call();
    return typeof result === 'bigint' ? `0x${result.toString(16)}` : String(result);
  } catch (error) {
    if (error instanceof VfioError) return error.code;
    throw error;
  }
}
