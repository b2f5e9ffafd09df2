import { expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { ContainerCall, callKernel, DeviceCall, GroupCall, IommufdCall } from './calls.ts';

const answering = (result: number) => ({ ioctl: () => result });

it('gives the result of a call that the kernel carries out', () => {
  expect(callKernel(answering(5), DeviceCall.SET_IRQS, 0, '0000:03:00.0')).toBe(5);
});

it('names the device, the call and the remedy of a refusal', () => {
  const act = () => callKernel(answering(-Errno.EAGAIN), DeviceCall.RESET, 0, '0000:03:00.0');
  expect(act).toThrow(
    expect.objectContaining({
      code: 'EAGAIN',
      message: '0000:03:00.0: the kernel refuses VFIO_DEVICE_RESET',
      fix: 'A different user holds the device for a moment; try again.',
    }),
  );
});

it('has a remedy for a device that is gone, whatever the call', () => {
  const act = () => callKernel(answering(-Errno.ENODEV), DeviceCall.GET_INFO, 0, '0000:03:00.0');
  expect(act).toThrow(expect.objectContaining({ code: 'ENODEV', fix: expect.stringContaining('removed') }));
});

it('reports an errno without a name by its number', () => {
  const act = () => callKernel(answering(-121), GroupCall.SET_CONTAINER, 0, '/dev/vfio/12');
  expect(act).toThrow(
    expect.objectContaining({ code: 'EIO', message: '/dev/vfio/12: the kernel refuses VFIO_GROUP_SET_CONTAINER with errno 121' }),
  );
});

it('has one row for each request of a kind of file', () => {
  for (const table of [ContainerCall, GroupCall, DeviceCall, IommufdCall]) {
    const requests = Object.values(table).map(({ request }) => request);
    expect(new Set(requests).size).toBe(requests.length);
  }
});
