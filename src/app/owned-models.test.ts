import { describe, expect, it } from 'vitest';
import { ProbeModel } from '../../tests/kit/machines.ts';
import { silentLogger } from '../base/log.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { DeviceServer } from './serve.ts';
import { simulate } from './simulation.ts';

/** A model that opened something: `log` says when that was closed, and when a device of the model went. */
function owning(log: string[], name: string, declaration = ProbeModel.declaration): DeviceModel {
  let open = true;
  const owns = {
    [Symbol.dispose]: () => {
      if (open) log.push(`${name} closed`);
      open = false;
    },
  };
  const create = () => ({ read: () => 0, write: () => {}, reset: () => {}, dispose: () => void log.push(`${name} gone`) });
  return { declaration, create, owns };
}
const noDevice = { ...ProbeModel.declaration, bars: [{ index: 9, size: 16, type: 'mem32' }] } as const;

describe('what a model opened', () => {
  it('goes with the simulation, after the device', () => {
    const log: string[] = [];
    const { device, owns } = simulate(owning(log, 'a'), { log: silentLogger });
    device.close();
    expect(log).toEqual([]);
    owns[Symbol.dispose]();
    expect(log).toEqual(['a gone', 'a closed']);
    expect(() => simulate(owning(log, 'b', noDevice), { log: silentLogger })).toThrow();
    expect(log.slice(2)).toEqual(['b closed']);
  });

  it('goes with the server, or when another device takes its place', () => {
    const log: string[] = [];
    const server = new DeviceServer(owning(log, 'a'), { log: silentLogger });
    expect(() => server.replace(owning(log, 'b', noDevice))).toThrow();
    expect(log).toEqual(['b closed']);
    server.replace(owning(log, 'c'));
    expect(log.slice(1)).toEqual(['a gone', 'a closed']);
    server[Symbol.dispose]();
    server[Symbol.dispose]();
    expect(log.slice(3)).toEqual(['c gone', 'c closed']);
    expect(() => new DeviceServer(owning(log, 'd', noDevice), { log: silentLogger })).toThrow();
    expect(log.slice(5)).toEqual(['d closed']);
  });
});
