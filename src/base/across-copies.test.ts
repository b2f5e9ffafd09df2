import { expect, it, vi } from 'vitest';
import { VfioError } from './errno.ts';

/** The modules that hold the classes, loaded once more. */
async function anotherCopy() {
  vi.resetModules();
  return {
    ...(await import('./errno.ts')),
    ...(await import('../sys/system-error.ts')),
    ...(await import('../abi/bus-error.ts')),
    ...(await import('../abi/device-host.ts')),
    ...(await import('../drivers/nvme/errors.ts')),
    ...(await import('../models/kit/life.ts')),
    ...(await import('../sys/eventfd.ts')),
    ...(await import('../sys/memfd.ts')),
    ...(await import('../sys/event-fd-line.ts')),
  };
}

it('an error of one copy is a VfioError of the other', async () => {
  const there = await anotherCopy();
  expect(there.VfioError).not.toBe(VfioError);
  expect(new there.VfioError('EBUSY', 'text')).toBeInstanceOf(VfioError);
  expect(new VfioError('EBUSY', 'text')).toBeInstanceOf(there.VfioError);
});

it('a subclass accepts its own kind of either copy, and not its parent', async () => {
  const [here, there] = [await anotherCopy(), await anotherCopy()];
  expect(new there.SystemError('EIO', 'text')).toBeInstanceOf(here.SystemError);
  expect(new there.SystemError('EIO', 'text')).toBeInstanceOf(here.VfioError);
  for (const subclass of [here.SystemError, here.BusError, here.NvmeError]) {
    expect(new here.VfioError('EIO', 'text')).not.toBeInstanceOf(subclass);
    expect(new there.VfioError('EIO', 'text')).not.toBeInstanceOf(subclass);
  }
  expect(new there.SystemError('EIO', 'text')).not.toBeInstanceOf(here.BusError);
});

it('a subclass of a user has the ordinary instanceof', () => {
  class Mine extends VfioError {}
  expect(new Mine('EIO', 'text')).toBeInstanceOf(Mine);
  expect(new Mine('EIO', 'text')).toBeInstanceOf(VfioError);
  expect(new VfioError('EIO', 'text')).not.toBeInstanceOf(Mine);
});

it('a fault of DMA and a reset are recognized by the other copy', async () => {
  const [here, there] = [await anotherCopy(), await anotherCopy()];
  expect(Object.create(there.DmaFault.prototype)).toBeInstanceOf(here.DmaFault);
  expect(new there.DeviceReset()).toBeInstanceOf(here.DeviceReset);
  expect(new Error('text')).not.toBeInstanceOf(here.DmaFault);
  for (const value of [null, undefined, 'text', {}]) expect(value instanceof here.VfioError).toBe(false);
});

it("an eventfd of the other copy is the line's own, without one between them", async () => {
  const [here, there] = [await anotherCopy(), await anotherCopy()];
  using event = there.EventFd.create();
  using into = here.sinkLine(event, 'the interrupt', () => {});
  using from = here.sourceLine(event, 'the doorbell');
  expect([into?.fd, from?.fd]).toEqual([event, event]);
});

it('memory of the other copy is shared by its descriptor', async () => {
  const [here, there] = [await anotherCopy(), await anotherCopy()];
  using memory = there.MemfdMemory.allocate(4096);
  expect(memory).toBeInstanceOf(here.MemfdMemory);
  using same = here.MemfdMemory.fromFd(memory.duplicateFd() as never, 0, 4096);
  memory.windows[0]![0] = 7;
  expect(same.windows[0]![0]).toBe(7);
});
