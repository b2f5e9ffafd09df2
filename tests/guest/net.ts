/**
 * Guests with network cards, driven by Linux's igb: two guests on one switch, one of which has a
 * second card, whose wire is a tap of the host.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Facts } from './facts.ts';
import type { GuestTools } from './guest-tools.ts';
import { HostEnd } from './host-end.ts';
import { Meetings } from './meetings.ts';
import { cardChecks, hostChecks, type InterruptKind, wireChecks, workChecks } from './net-checks.ts';
import { behind, MODULES, port } from './net-machine.ts';
import type { NetTools } from './net-tools.ts';
import { visitTenants } from './tenants.ts';
import { scenario, type Visits } from './visits.ts';

const MIB = 2 ** 20;
/** In each transfer. Emulated processors take a second for a few MiB. */
const BYTES = 2 * MIB;
/** Of ten transfers with igb: more than 1 GiB in all. */
const MANY_BYTES = 128 * MIB;

interface Role {
  readonly name: string;
  readonly address: string;
  /** Of the card on the switch. */
  readonly mac: string;
  /** How the guest's kernel takes interrupts of cards. */
  readonly kind: InterruptKind;
  /** Further words for its command line. */
  readonly kernel: readonly string[];
}

const ROLES: readonly [Role, Role] = [
  { name: 'first', address: '10.1.0.1', mac: '52:54:00:12:34:01', kind: 'MSI-X', kernel: [] },
  { name: 'second', address: '10.1.0.2', mac: '52:54:00:12:34:02', kind: 'INTx', kernel: ['pci=nomsi'] },
];
const HOST = '10.2.0.9';

/** Addresses of the cards, in the machine that is served. */
const CARDS = ['0000:01:00.0', '0000:02:00.0'] as const;
const TAPPED = '0000:03:00.0';
const TAP = 'guest0';

const MACHINE = `
devices:
  - { at: 01.0, kind: root-port, devices: [{ at: 00.0, model: "82576", driver: vfio-pci, options: { wire: "switch:lan", mac: "${ROLES[0].mac}" } }] }
  - { at: 02.0, kind: root-port, devices: [{ at: 00.0, model: "82576", driver: vfio-pci, options: { wire: "switch:lan", mac: "${ROLES[1].mac}" } }] }
  - { at: 03.0, kind: root-port, devices: [{ at: 00.0, model: "82576", driver: vfio-pci, options: { wire: "tap:${TAP}" } }] }
`;

/** @param speed more bytes in each transfer */
export async function visitNet(visits: Visits, tools: GuestTools, net: NetTools, { speed }: { readonly speed: boolean }): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-net-'));
  try {
    const machine = join(folder, 'machine.yaml');
    writeFileSync(machine, MACHINE);
    const bytes = speed ? MANY_BYTES : BYTES;
    await visitPair(visits, tools, net, machine, bytes);
    await visitTenants(visits, tools, net, folder, bytes);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function visitPair(visits: Visits, tools: GuestTools, net: NetTools, machine: string, bytes: number): Promise<void> {
  const meetings = new Meetings(ROLES.length);
  await visits.withServed(
    [machine],
    async (served) => {
      using host = new HostEnd(served.pid, TAP, HOST, { net: net.program, busybox: tools.busybox });
      const both = ROLES.map(async ({ name, address, mac, kind, kernel }, i) => {
        const hasHost = i === 0;
        const peer = ROLES[1 - i]!;
        const facts = await visits.visit(
          `two guests with network cards: the ${name}`,
          {
            scenario: scenario('net-common.sh', 'net.sh'),
            entries: [...net.entries, ...tools.modules('net', MODULES)],
            iommu: true,
            qemu: [
              ...[...port(1), ...served.qemuDevice({ bus: 'root1' }, CARDS[i])],
              ...(hasHost ? [...port(2), ...served.qemuDevice({ bus: 'root2' }, TAPPED)] : []),
            ],
            kernel: [
              ...[`net.name=${name}`, `net.bdf=${behind(1)}`, `net.address=${address}`, `net.peer=${peer.address}`, `net.bytes=${bytes}`],
              ...(hasHost ? [`net.host=${HOST}`, `net.host-bdf=${behind(2)}`] : []),
              ...kernel,
            ],
            onFact(_subject, key, value, guest) {
              if (key !== 'asks') return;
              const [what, place = ''] = value.split(' ');
              if (what === 'meet') meetings.arrive(place, guest);
              if (what !== 'host-counters') return;
              const { received, sent } = host.counters();
              guest.note('host', 'frames.received', received);
              guest.note('host', 'frames.sent', sent);
              guest.send('noted');
            },
          },
          {
            [name]: [
              ...cardChecks(name, { kind, mac }),
              ...(i === 0 ? workChecks(name, bytes) : []),
              ...(hasHost ? hostChecks(name, bytes) : []),
            ],
          },
          tools,
        );
        meetings.leave();
        return facts;
      });
      const facts = await Promise.all(both);
      visits.judge({ wire: wireChecks }, Facts.together(facts));
    },
    true,
  );
}
