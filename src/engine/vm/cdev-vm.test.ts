/** Virtual machines of devices that are bound to an iommufd. */
import { expect, it } from 'vitest';
import { alone, testMachine } from '../../../tests/kit/machines.ts';
import { SyntheticVm } from './synthetic-vm.ts';
import { VfioFileSet } from './vfio-file-set.ts';
import { VmProvider } from './vm-provider.ts';

const BDF = '0000:01:00.0';

function setUp() {
  const { machine } = testMachine({ devices: [alone('01.0', { at: '00.0', model: 'probe', driver: 'vfio-pci' })] });
  const provider = new VmProvider('kvm');
  const vm = (name: string) => new SyntheticVm(provider, name, () => {});
  const file = machine.openDevice(BDF);
  const iommufd = machine.openIommufd();
  const bind = () => file.bind({ iommufd: () => iommufd });
  return { machine, provider, vm, file, bind, device: machine.function(BDF).vfio! };
}

const nothing = { [Symbol.dispose]: () => {} };

it('S4-14 a file of a device takes its machine before BIND, which takes the reference', () => {
  const { vm, file, bind, device, provider } = setUp();
  const a = vm('a');
  using set = new VfioFileSet(a);
  set.add(file, nothing);
  expect([a.references, device.vm]).toEqual([1, null]);
  bind();
  expect([a.references, device.vm?.name, provider.pins]).toEqual([2, 'a', 1]);
  file.close();
  expect([a.references, device.vm, provider.pins]).toEqual([1, null, 0]);
});

it('S4-14 a machine that comes after BIND, or goes, changes nothing until the next BIND', () => {
  const { machine, vm, file, bind, device } = setUp();
  bind();
  const late = vm('late');
  const set = new VfioFileSet(late);
  set.add(file, nothing);
  expect([late.references, device.vm]).toEqual([1, null]);
  file.close();
  const next = machine.openDevice(BDF);
  const iommufd = machine.openIommufd();
  set.add(next, nothing);
  next.bind({ iommufd: () => iommufd });
  set[Symbol.dispose]();
  expect([late.references, device.vm?.name]).toEqual([2, 'late']);
  next.close();
  expect([late.references, device.vm]).toEqual([1, null]);
});

it('S4-04 S4-14 a machine that is dying gives no reference, and BIND succeeds without', () => {
  const { vm, file, bind, device, provider } = setUp();
  const a = vm('a');
  new VfioFileSet(a).add(file, nothing);
  provider.unload();
  bind();
  expect([a.references, device.vm]).toEqual([1, null]);
  file.close();
});
