/** Our client of Linux's VFIO on the virtual kernel, beyond the conformance cases. */
import { join } from 'node:path';
import { Machine } from '../../src/engine/machine/machine.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { endpointTest } from '../../src/models/endpoint-test/endpoint-test.ts';
import { acs } from '../../src/pci/capabilities.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { ProgramCases } from '../kit/program-cases.ts';

const driver = 'vfio-pci';

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
    { devices: [port('01.0', withAcs(true), withAcs(false)), port('02.0', endpointTest()), port('03.0', edu()), port('04.0', edu())] },
    { allocate: MemfdMemory.allocate, params: { maxVectors: 256, forceRevokeAfterMs: 1000 } },
  );
}

const program = join(import.meta.dirname, 'device-cases.ts');
using cases = new ProgramCases();
for (const via of ['group', 'cdev']) {
  await cases.declare(`Linux’s VFIO by ${via}`, program, { machine, environment: { VIA: via }, least: 15 });
}
