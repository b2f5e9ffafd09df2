/** Our client of Linux's VFIO on the virtual kernel, beyond the conformance cases. */
import { join } from 'node:path';
import { u32 } from '../../src/base/registers.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { endpointTest } from '../../src/models/endpoint-test/endpoint-test.ts';
import { bar } from '../../src/models/kit/bar.ts';
import { device } from '../../src/models/kit/device.ts';
import { acs, aer, pcie } from '../../src/pci/capabilities.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { ProgramCases } from '../kit/program-cases.ts';

const driver = 'vfio-pci';

/** A card that reports an uncorrectable error at a write of its register. */
const failing = device({
  id: '1234:e770',
  bars: { bar0: bar('4K', { fail: u32(0) }) },
  capabilities: [pcie()],
  extendedCapabilities: [aer()],
  on: { 'bar0.fail': (dev) => void dev.reportError('nonfatal') },
});

function machine(): Machine {
  const port = (at: string, ...models: ReturnType<typeof edu>[]) => ({
    at,
    kind: 'root-port' as const,
    devices: models.map((model, fn) => ({ at: `00.${fn}`, model, driver })),
  });
  /** A PCI Express edu whose functions are kept apart. */
  const withAcs = (migration: boolean) => {
    const { sriov: _, ...model } = edu({ vfs: 1, migration });
    return { ...model, declaration: { ...model.declaration, extendedCapabilities: [acs()] } };
  };
  return new Machine(
    {
      devices: [
        port('01.0', withAcs(true), withAcs(false)),
        port('02.0', endpointTest()),
        port('03.0', edu()),
        port('04.0', edu()),
        port('05.0', failing),
      ],
    },
    { allocate: MemfdMemory.allocate, params: { maxVectors: 256, forceRevokeAfterMs: 1000 } },
  );
}

const program = join(import.meta.dirname, 'device-cases.ts');
using cases = new ProgramCases();
for (const via of ['group', 'cdev']) {
  await cases.declare(`Linux’s VFIO by ${via}`, program, { machine, environment: { VIA: via }, least: 15 });
}
