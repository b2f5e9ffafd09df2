// A device and its driver under the strictest settings of TypeScript.
import { bar, type DeviceModel, device, open, registers, u32, VfioError } from 'vfio-ts';
import { capabilities, type DeviceHost, type Model, models, TestHost } from 'vfio-ts/device';
import { type Device, EduDriver, Feature, type Region, RegionIndex } from 'vfio-ts/driver';
import { Extension, KernelDoor, loadMachine, Machine, Process } from 'vfio-ts/machine';
import { NvmeDriver, type NvmeNamespace } from 'vfio-ts/nvme';
import { type Figures, type MoveOptions, serve } from 'vfio-ts/server';

const Card = registers({ value: u32(0x00), start: u32(0x04) });
const card: DeviceModel = device({
  id: '1234:cafe',
  msi: 1,
  bars: { bar0: bar('4K', Card) },
  on: {
    'bar0.start'(dev) {
      dev.bar0.value += 1;
      dev.irq.trigger(0);
    },
  },
});

const dev = await open(card, { match: '1234:cafe' });
const card0 = dev.bar(0, Card);
const irq = dev.msi.enable(1);
dev.busMaster = true;
card0.value = 41;
card0.start = 1;
await irq.next(0, { timeoutMs: 60_000 });
const answer: number = card0.value;
dev[Symbol.dispose]();

export type Names = [DeviceHost, Model, Device, Region, NvmeNamespace, Figures, MoveOptions];
export const values = [capabilities, models, TestHost, EduDriver, Feature, RegionIndex, Extension, KernelDoor, loadMachine, Machine];
export const more = [Process, NvmeDriver, serve, VfioError];
declare const console: { log(...values: unknown[]): void };
console.log(answer);
