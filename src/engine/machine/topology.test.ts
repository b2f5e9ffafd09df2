import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FunctionKind, Grouping } from './machine-spec.ts';
import { partition, type TopologyNode } from './topology.ts';

interface NodeOptions {
  readonly acs?: boolean;
  readonly parent?: Node;
  readonly multifunction?: boolean;
  readonly aliases?: readonly number[];
  readonly requester?: Node;
}

class Node implements TopologyNode {
  readonly bdf: string;
  readonly kind: FunctionKind;
  readonly devfn: number;
  readonly parent: Node | null;
  readonly isMultifunction: boolean;
  readonly acs: boolean;
  readonly dmaAliases: readonly number[];
  readonly behind = {};
  readonly isolates = false;
  readonly requester: Node | null;
  readonly bus: object;

  constructor(bdf: string, kind: FunctionKind, options: NodeOptions = {}) {
    this.bdf = bdf;
    this.kind = kind;
    const [device, fn] = bdf.slice(3).split('.');
    this.devfn = (Number.parseInt(device!, 16) << 3) | Number(fn);
    this.parent = options.parent ?? null;
    this.isMultifunction = options.multifunction ?? false;
    this.acs = options.acs ?? false;
    this.dmaAliases = options.aliases ?? [];
    this.requester = options.requester ?? null;
    this.bus = this.parent?.behind ?? rootBus;
  }
}

const rootBus = {};
const groups = (nodes: readonly Node[], grouping: Grouping = 'linux') =>
  partition(nodes, grouping).map((c) => c.members.map((n) => n.bdf).join(' '));

describe('S1-01 groups follow from the fabric', () => {
  it('S1-01 an endpoint behind a root port with ACS is alone', () => {
    const port = new Node('00:01.0', 'root-port', { acs: true });
    expect(groups([port, new Node('01:00.0', 'endpoint', { parent: port })])).toEqual(['00:01.0', '01:00.0']);
  });

  it('S1-01 an endpoint behind a root port without ACS shares its group, and the reason names the port', () => {
    const port = new Node('00:01.0', 'root-port');
    const card = new Node('01:00.0', 'endpoint', { parent: port });
    const [only] = partition([port, card], 'linux');
    expect(only!.members).toEqual([port, card]);
    expect(only!.reasons.get(card)).toBe('requests can turn round at 00:01.0, which has no access control (ACS)');
  });

  it('S1-01 functions of a device without ACS are one group, those with ACS are not', () => {
    const gpu = new Node('00:02.0', 'integrated-endpoint', { multifunction: true });
    const audio = new Node('00:02.1', 'integrated-endpoint', { multifunction: true });
    const nic0 = new Node('00:03.0', 'integrated-endpoint', { multifunction: true, acs: true });
    const nic1 = new Node('00:03.1', 'integrated-endpoint', { multifunction: true, acs: true });
    expect(groups([gpu, audio, nic0, nic1])).toEqual(['00:02.0 00:02.1', '00:03.0', '00:03.1']);
  });

  it('S1-01 of a device with one isolated function the others are together', () => {
    const of = (fn: number, acs: boolean) => new Node(`00:03.${fn}`, 'integrated-endpoint', { multifunction: true, acs });
    expect(groups([of(0, false), of(1, true), of(2, false)])).toEqual(['00:03.0 00:03.2', '00:03.1']);
  });

  it('S1-01 conventional devices on the root bus are apart, their functions are not', () => {
    const isa = new Node('00:1f.0', 'conventional', { multifunction: true });
    const smbus = new Node('00:1f.3', 'conventional', { multifunction: true });
    expect(groups([new Node('00:04.0', 'conventional'), isa, smbus])).toEqual(['00:04.0', '00:1f.0 00:1f.3']);
  });

  it('S1-01 everything behind a conventional bridge is in the bridge’s group', () => {
    const port = new Node('00:1c.0', 'root-port', { acs: true });
    const bridge = new Node('02:00.0', 'pcie-to-pci-bridge', { parent: port });
    const cards = [new Node('03:00.0', 'conventional', { parent: bridge }), new Node('03:01.0', 'conventional', { parent: bridge })];
    const second = new Node('03:02.0', 'pci-bridge', { parent: bridge });
    const below = new Node('04:00.0', 'conventional', { parent: second });
    expect(groups([port, bridge, ...cards, second, below])).toEqual(['00:1c.0', '02:00.0 03:00.0 03:01.0 03:02.0 04:00.0']);
  });

  function aSwitch(acs: readonly boolean[]): Node[] {
    const root = new Node('00:1c.0', 'root-port', { acs: true });
    const up = new Node('01:00.0', 'upstream-port', { parent: root });
    const downs = acs.map((on, i) => new Node(`02:0${i}.0`, 'downstream-port', { parent: up, acs: on }));
    return [root, up, ...downs, ...downs.map((d, i) => new Node(`0${3 + i}:00.0`, 'endpoint', { parent: d }))];
  }

  it('S1-01 a switch with ACS on all ports isolates each device', () => {
    expect(groups(aSwitch([true, true]))).toEqual(['00:1c.0', '01:00.0', '02:00.0', '02:01.0', '03:00.0', '04:00.0']);
  });

  it('S1-01 a port of a switch without ACS takes in what is behind it, and leaves the other ports alone', () => {
    expect(groups(aSwitch([true, false]))).toEqual(['00:1c.0', '01:00.0', '02:00.0', '02:01.0 04:00.0', '03:00.0']);
    expect(groups(aSwitch([false, false]))).toEqual(['00:1c.0', '01:00.0', '02:00.0 03:00.0', '02:01.0 04:00.0']);
  });

  it('S1-01 grouping strict: one port of a switch without ACS ties everything behind the switch together', () => {
    expect(groups(aSwitch([true, true]), 'strict')).toEqual(groups(aSwitch([true, true])));
    expect(groups(aSwitch([true, false]), 'strict')).toEqual(['00:1c.0', '01:00.0', '02:00.0 02:01.0 03:00.0 04:00.0']);
    expect(groups(aSwitch([false, false]), 'strict')).toEqual(['00:1c.0', '01:00.0', '02:00.0 02:01.0 03:00.0 04:00.0']);
  });

  it('S1-01 a bus whose DMA carries the requester id of a function elsewhere is in that function’s group', () => {
    const manager = new Node('00:0e.0', 'integrated-endpoint');
    const port = new Node('e0:06.0', 'root-port', { acs: true, requester: manager });
    const drive = new Node('e1:00.0', 'endpoint', { parent: port, requester: manager });
    const [only] = partition([manager, port, drive], 'linux');
    expect(only!.members).toEqual([manager, port, drive]);
    expect(only!.reasons.get(drive)).toBe('its DMA carries the requester id of 00:0e.0');
  });

  it('S1-01 a root port without ACS ties in a whole switch', () => {
    const root = new Node('00:1c.0', 'root-port');
    const up = new Node('01:00.0', 'upstream-port', { parent: root });
    const down = new Node('02:00.0', 'downstream-port', { parent: up, acs: true });
    const card = new Node('03:00.0', 'endpoint', { parent: down });
    expect(groups([root, up, down, card])).toEqual(['00:1c.0 01:00.0 02:00.0 03:00.0']);
  });

  it('S1-01 root ports that are functions of one device and have no ACS are one group with all behind them', () => {
    const a = new Node('00:1c.0', 'root-port', { multifunction: true });
    const b = new Node('00:1c.1', 'root-port', { multifunction: true });
    const behind = [new Node('01:00.0', 'endpoint', { parent: a }), new Node('02:00.0', 'endpoint', { parent: b })];
    expect(groups([a, b, ...behind])).toEqual(['00:1c.0 00:1c.1 01:00.0 02:00.0']);
  });

  it('S1-01 a device that uses the requester id of another shares its group', () => {
    const quirk = new Node('00:05.0', 'integrated-endpoint', { aliases: [(5 << 3) | 1] });
    const other = new Node('00:05.1', 'integrated-endpoint', { multifunction: true, acs: true });
    const [only] = partition([quirk, other], 'linux');
    expect(only!.members).toEqual([quirk, other]);
  });

  it('S1-02 a device alone has a class of its own', () => {
    expect(groups([new Node('00:04.0', 'integrated-endpoint')])).toEqual(['00:04.0']);
  });

  it('S1-01 property: each function is in exactly one class, and taking ACS away never splits one', () => {
    const machine = fc.array(
      fc.record({ ports: fc.array(fc.boolean(), { minLength: 1, maxLength: 3 }), root: fc.boolean(), twin: fc.boolean() }),
      {
        minLength: 1,
        maxLength: 4,
      },
    );
    const build = (shape: readonly { ports: boolean[]; root: boolean; twin: boolean }[], acs: (on: boolean) => boolean) => {
      const nodes: Node[] = [];
      shape.forEach((s, i) => {
        const root = new Node(`00:0${i}.0`, 'root-port', { acs: acs(s.root) });
        const up = new Node(`1${i}:00.0`, 'upstream-port', { parent: root });
        nodes.push(root, up);
        s.ports.forEach((on, p) => {
          const down = new Node(`2${i}:0${p}.0`, 'downstream-port', { parent: up, acs: acs(on) });
          nodes.push(down, new Node(`${3 + i}${p}:00.0`, 'endpoint', { parent: down, multifunction: s.twin }));
          if (s.twin) nodes.push(new Node(`${3 + i}${p}:00.1`, 'endpoint', { parent: down, multifunction: true, acs: acs(on) }));
        });
      });
      return nodes;
    };
    fc.assert(
      fc.property(machine, fc.constantFrom<Grouping>('linux', 'strict'), (shape, grouping) => {
        const with_ = partition(
          build(shape, (on) => on),
          grouping,
        );
        const without = partition(
          build(shape, () => false),
          grouping,
        );
        const all = with_.flatMap((c) => c.members.map((n) => n.bdf));
        expect(new Set(all).size).toBe(all.length);
        const coarse = new Map(without.flatMap((c, i) => c.members.map((n) => [n.bdf, i] as const)));
        for (const c of with_) expect(new Set(c.members.map((n) => coarse.get(n.bdf))).size).toBe(1);
        for (const c of with_) for (const n of c.members.slice(1)) expect(c.reasons.get(n)).not.toBe('');
      }),
      { numRuns: 500 },
    );
  });
});
