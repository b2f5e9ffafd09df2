/**
 * The conformance cases on Linux's VFIO: our client in a program of `vfio exec`, on the virtual
 * kernel, by group and by the device's own file. Guests run the same program on real kernels.
 */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Machine } from '../../src/engine/machine/machine.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { ProgramCases } from '../kit/program-cases.ts';
import { PF, Tenant, TOKEN, VF1 } from '../kit/sriov-rig.ts';
import { unexplained } from './known-differences.ts';
import { answersIn, comparedWith } from './standalone/results.ts';

const driver = 'vfio-pci';
const { allocate } = MemfdMemory;
const alone = () => new Machine({ devices: [{ at: '04.0', model: edu(), driver }] }, { allocate });

/** The PF's driver has set the token, and has closed the PF. */
function card(): Machine {
  const devices = [{ at: '00.0', model: edu({ vfs: 2 }), driver, numVfs: 2 }];
  const machine = new Machine({ enableSriov: true, devices: [{ at: '01.0', kind: 'root-port', devices }] }, { allocate });
  new Tenant(machine, PF).open(TOKEN).close();
  return machine;
}

const program = join(import.meta.dirname, 'kernel-cases.ts');
const least = 45;
using cases = new ProgramCases();
const engine = answersIn(await cases.output(join(import.meta.dirname, 'engine-cases.ts')));
for (const via of ['group', 'cdev'] as const) {
  const output = await cases.declare(`Linux’s VFIO by ${via}`, program, {
    machine: alone,
    environment: { EDU_BDF: '0000:00:04.0', EDU_VIA: via },
    least,
  });
  if (output === null) break;
  it(`Linux’s VFIO by ${via} gives the answers of the engine, call by call`, () => {
    expect(unexplained(`virtual ${via}`, comparedWith(engine, output))).toEqual([]);
  });
  await cases.declare(`Linux’s VFIO by ${via}, a virtual function`, program, {
    machine: card,
    environment: { EDU_BDF: VF1, EDU_VIA: via, EDU_TOKEN: TOKEN, EDU_VIRTUAL: '1' },
    least,
  });
}
