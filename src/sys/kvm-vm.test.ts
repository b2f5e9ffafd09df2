import { closeSync, existsSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { alone, openAll, testMachine } from '../../tests/kit/machines.ts';
import { VfioError } from '../base/errno.ts';
import { VFIO_PCI } from '../engine/machine/binding.ts';
import { VfioFileSet } from '../engine/vm/vfio-file-set.ts';
import { type VmFile, VmProvider } from '../engine/vm/vm-provider.ts';
import { EventFd } from './eventfd.ts';
import { KvmVm } from './kvm-vm.ts';
import { OwnedFd } from './owned-fd.ts';

/** Why there is no KVM to try it with; null where there is. */
const missing = ((): string | null => {
  try {
    KvmVm.create()[Symbol.dispose]();
    return null;
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    return error.message;
  }
})();

const machines = () =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:kvm-vm';
    } catch {
      return false;
    }
  }).length;

describe('KVM', () => {
  it('S4-07 what is no virtual machine is refused, and what was handed over is closed', () => {
    using eventfd = EventFd.create();
    const before = readdirSync('/proc/self/fd').length;
    const file = openSync('/dev/null', 'r');
    expect(() => KvmVm.fromNumber(file)).toThrow(
      expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('/dev/null') }),
    );
    expect(() => KvmVm.fromNumber(-1)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    closeSync(file);
    expect(() => KvmVm.fromNumber(file)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(readdirSync('/proc/self/fd').length).toBe(before);
    expect(eventfd.references).toBe(1);
    expect(() => KvmVm.create('/dev/kvm-that-is-not-there')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });

  it('S4-07 what was handed over is closed when its kind cannot be found out', () => {
    const fd = OwnedFd.duplicate(0);
    const describing = vi.spyOn(OwnedFd.prototype, 'describe').mockImplementation(() => {
      throw new Error('no /proc here');
    });
    expect(() => KvmVm.take(fd)).toThrow('no /proc here');
    describing.mockRestore();
    expect(fd.closed).toBe(true);
  });

  it.skipIf(missing !== null)(
    `S4-07 a real machine lives until its device is closed${missing === null ? '' : ` (skipped: ${missing})`}`,
    () => {
      expect(existsSync('/dev/kvm')).toBe(true);
      const { machine } = testMachine({ devices: [alone('01.0', { at: '00.0', model: 'probe', driver: VFIO_PCI })] });
      const { group, device } = openAll(machine, '0000:01:00.0');
      device.close();
      const kvm = KvmVm.create();
      const vm = KvmVm.fromNumber(kvm.number);
      kvm[Symbol.dispose]();
      expect(machines()).toBe(1);
      const provider = new VmProvider('kvm');
      const file: VmFile = { provider, name: vm.name, tryGet: () => vm.tryGet(), put: () => vm.put() };
      const set = new VfioFileSet(file);
      set.add(group, { [Symbol.dispose]: () => {} });
      const open = group.openDevice('0000:01:00.0');
      set[Symbol.dispose]();
      vm[Symbol.dispose]();
      expect([machines(), provider.pins]).toEqual([1, 1]);
      open.close();
      expect([machines(), provider.pins, vm.tryGet()]).toEqual([0, 0, false]);
    },
  );
});
