/**
 * Two guests that each have a virtual function of one card, with Linux's igbvf. `vfio net share`
 * drives the physical function.
 */
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { administerMachine } from '../../src/api/machine-server.ts';
import { VfioProcess } from '../kit/vfio-process.ts';
import type { Check } from './checks.ts';
import { mustBe } from './checks.ts';
import { Facts } from './facts.ts';
import type { GuestTools } from './guest-tools.ts';
import { Meetings } from './meetings.ts';
import { tenantChecks, tenantWorkChecks } from './net-checks.ts';
import { behind, MODULES, port } from './net-machine.ts';
import type { NetTools } from './net-tools.ts';
import type { ServedDevice } from './served-device.ts';
import { scenario, type Visits } from './visits.ts';

const PF = '0000:01:00.0';
/** Of VF 0 and VF 1 (9.7.1: offset 128, stride 2). */
const VFS = ['0000:01:10.0', '0000:01:10.2'] as const;
const VF_COUNT = 7;

const TENANTS = [
  { name: 'first', address: '10.1.0.1', mac: '52:54:00:00:00:01' },
  { name: 'second', address: '10.1.0.2', mac: '52:54:00:00:00:02' },
] as const;
const PHYSICAL = '10.1.0.100';

const MACHINE = `
enableSriov: true
devices:
  - { at: 01.0, kind: root-port, devices: [{ at: 00.0, model: "82576", driver: vfio-pci, options: { wire: "switch:lan" } }] }
  - { at: 02.0, kind: root-port, devices: [{ at: 00.0, model: "82576", driver: vfio-pci, options: { wire: "switch:lan" } }] }
`;

/** `vfio net share` on the physical function, which ends and comes again. */
class Sharing implements AsyncDisposable {
  readonly #words: readonly string[];
  #process: VfioProcess | null = null;
  /** How often it has begun, and its exit statuses. */
  readonly ends: (number | NodeJS.Signals)[] = [];

  constructor(served: ServedDevice, tokenFile: string) {
    const settings = TENANTS.flatMap(({ mac }, i) => ['--vf', `${i},mac=${mac}`]);
    const address = `unix:${join(served.socketPath, `${PF}.sock`)}`;
    this.#words = ['net', 'share', address, '--vf-token-file', tokenFile, '--ip', PHYSICAL, ...settings];
  }

  async begin(): Promise<void> {
    this.#process = new VfioProcess(this.#words);
    await this.#process.says('shares its card');
  }

  async end(): Promise<void> {
    if (this.#process !== null) this.ends.push(await this.#process.end('SIGTERM'));
    this.#process = null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.[Symbol.asyncDispose]();
  }
}

/** @param folder for files of this visit */
export async function visitTenants(visits: Visits, tools: GuestTools, net: NetTools, folder: string, bytes: number): Promise<void> {
  const [machine, tokenFile] = [join(folder, 'card.yaml'), join(folder, 'token')];
  writeFileSync(machine, MACHINE);
  writeFileSync(tokenFile, randomUUID(), { mode: 0o600 });
  await visits.withServed([machine, '--vf-token-file', tokenFile], async (served) => {
    await using sharing = new Sharing(served, tokenFile);
    const enable = async (count: number) =>
      (await administerMachine(served.socketPath, 'numvfs', { bdf: PF, count: `${count}` })).lines.join('\n');
    await sharing.begin();
    const enabled = await enable(VF_COUNT);
    const meetings = new Meetings(TENANTS.length);
    const both = TENANTS.map(async ({ name, address, mac }, i) => {
      await visits.visit(
        `two guests with virtual functions of one card: the ${name}`,
        {
          scenario: scenario('net-common.sh', 'net-vf.sh'),
          entries: [...net.entries, ...tools.modules('net', MODULES)],
          iommu: true,
          qemu: [...port(1), ...served.qemuDevice({ bus: 'root1' }, VFS[i])],
          kernel: [
            ...[`net.name=${name}`, `net.bdf=${behind(1)}`, `net.address=${address}`, `net.peer=${TENANTS[1 - i]!.address}`],
            ...[`net.physical=${PHYSICAL}`, `net.bytes=${bytes}`],
          ],
          onFact(_subject, key, value, guest) {
            if (key !== 'asks') return;
            const [what, place = ''] = value.split(' ');
            if (what === 'meet') meetings.arrive(place, guest);
            if (what === 'driver-ends') void sharing.end().then(() => guest.send('done'));
            if (what === 'driver-comes') void sharing.begin().then(() => guest.send('done'));
          },
        },
        { [name]: [...tenantChecks(name, mac), ...(i === 0 ? tenantWorkChecks(name, bytes) : [])] },
        tools,
      );
      meetings.leave();
    });
    await Promise.all(both);
    const disabled = await enable(0);
    const again = await enable(VF_COUNT);
    await sharing.end();
    // Their sockets are the server's descriptors.
    await enable(0);
    const checks: readonly Check[] = [
      mustBe('enables 7 VFs while the driver of the physical function works', vfsIn(enabled), VF_COUNT),
      mustBe('disables them when the guests are gone', disabled.includes('has no virtual functions'), true),
      mustBe('enables them again', vfsIn(again), VF_COUNT),
      mustBe('vfio net share ends well', sharing.ends.join(' '), '0 0'),
    ];
    visits.judge({ administrator: checks }, new Facts());
  });
}

/** How many VFs the administrator's answer lists. */
const vfsIn = (answer: string) => answer.match(/01:1[0-9]\.\d/g)?.length ?? 0;
