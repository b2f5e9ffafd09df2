import { expect, it } from 'vitest';
import { alone, openAll, testMachine } from '../../tests/kit/machines.ts';
import { RegionIndex } from '../abi/vfio.ts';
import { VFIO_PCI } from '../engine/machine/binding.ts';
import { Mediators } from '../engine/mediation/mediators.ts';
import { type RegisterRecord, registerRecorder } from './register-recorder.ts';

const BDF = '0000:01:00.0';

function open(match?: string) {
  const records: RegisterRecord[] = [];
  const mediators = new Mediators();
  mediators.register(registerRecorder({ onRecord: (record) => void records.push(record), ...(match === undefined ? {} : { match }) }));
  const rig = testMachine({ devices: [alone('01.0', { at: '00.0', model: 'probe', driver: VFIO_PCI })] }, { mediators });
  return { ...rig, records, ...openAll(rig.machine, BDF) };
}

it('S0-10 the recorder sees every access to every region, and the device works as without it', () => {
  const { device, records, clock } = open('CAFE:0001');
  const bar = device.region(0);
  clock.advance(1);
  expect(bar.read32(0)).toBe(0x600df00d);
  bar.write32(4, 0x11223344);
  expect(bar.read16(4)).toBe(0x3344);
  device.region(RegionIndex.CONFIG).write16(4, 6);
  bar.write(0, new Uint8Array(4096));
  expect(records.map(({ region, access, offset, size }) => [region, access, offset, size])).toEqual([
    [0, 'read', 0, 4],
    [0, 'write', 4, 4],
    [0, 'read', 4, 2],
    [RegionIndex.CONFIG, 'write', 4, 2],
    [0, 'write', 0, 4096],
  ]);
  expect(records[0]).toMatchObject({ timeNs: 1e6, device: BDF, bytes: Uint8Array.of(0x0d, 0xf0, 0x0d, 0x60) });
  expect(records[4]!.bytes.length).toBe(64);
});

it('S0-10 no mapping gets around the recorder, and failed accesses are not recorded', () => {
  const { device, records } = open();
  expect(() => device.region(0).map()).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(() => device.region(0).read32(0x2000)).toThrow();
  expect(records).toEqual([]);
});

it('S0-01 the recorder does not touch devices that do not match', () => {
  const { device, machine, records } = open('8086:100e');
  expect(device.region(0).read32(0)).toBe(0x600df00d);
  expect([records.length, machine.function(BDF).vfio!.mediation]).toEqual([0, null]);
  device.region(0).map()[Symbol.dispose]();
});
