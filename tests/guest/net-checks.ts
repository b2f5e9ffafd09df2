/** The facts that guests must print of their network cards. */
import { type Check, tells } from './checks.ts';
import type { Facts } from './facts.ts';

/** How a guest's card interrupts, and the line of igb that says so. */
const INTERRUPTS = {
  'MSI-X': { says: 'Using MSI-X interrupts', lines: ['eth0-rx-0', 'eth0-tx-0', 'eth0'] },
  INTx: { says: 'Using legacy interrupts', lines: ['eth0'] },
} as const;

export type InterruptKind = keyof typeof INTERRUPTS;

const lines = (facts: Facts, subject: string, key: string) => facts.get(subject, key).split('\n');

/** The lowest level of a line that is no complaint: KERN_NOTICE. */
const NOTICE = 5;

/** Lines of the driver that are warnings by their level alone. */
const EXPECTED_WARNINGS = /: (resetting|reset done)$/;

/** The driver's lines in the kernel's log, none of which is a complaint. */
export function quiet(title: string, subject: string, keys: readonly string[]): Check {
  return {
    title,
    run(facts) {
      const wrong = keys
        .flatMap((key) => lines(facts, subject, `log.${key}`))
        .filter((line) => line !== 'end' && Number(line.split(' ')[0]) < NOTICE && !EXPECTED_WARNINGS.test(line));
      if (wrong.length > 0) throw new Error(wrong.join('\n      '));
    },
  };
}

/** A line of the log or of a program. */
export function says(title: string, subject: string, key: string, pattern: RegExp): Check {
  return {
    title,
    run(facts) {
      if (!pattern.test(facts.get(subject, key))) throw new Error(`${facts.get(subject, key)}\n      has no ${pattern}`);
    },
  };
}

/** Both ways, with the sums of both ends. */
export function transferred(title: string, subject: string, key: string, bytes: number): Check {
  return {
    title,
    run(facts) {
      for (const way of ['up', 'down']) {
        const at = `tcp.${key}.${way}`;
        if (facts.has(subject, `${at}.error`)) throw new Error(`${way}: ${facts.get(subject, `${at}.error`)}`);
        const arrived = facts.get(subject, `${at}.bytes`);
        if (arrived !== `${bytes}`) throw new Error(`${way}: ${arrived} bytes have arrived of ${bytes}`);
        const [sent, received] = [facts.get(subject, `${at}.sent`), facts.get(subject, `${at}.received`)];
        if (sent !== received) throw new Error(`${way}: the sums are ${sent} and ${received}`);
      }
    },
  };
}

export function answered(title: string, subject: string, ...keys: readonly string[]): Check {
  return tells(title, subject, Object.fromEntries(keys.map((key) => [`ping.${key}`, '3'])));
}

const counter = (facts: Facts, subject: string, name: string, key = 'statistics') => {
  const line = lines(facts, subject, key).find((each) => each.startsWith(`${name} `));
  if (line === undefined) throw new Error(`ethtool -S has no ${name}`);
  return Number(line.split(' ')[1]);
};

/** Counters of the hardware beside those that the driver counts for itself, and no errors. */
function statistics(subject: string): Check {
  const errors = ['rx_errors', 'tx_errors', 'rx_crc_errors', 'rx_missed_errors', 'rx_no_buffer_count', 'rx_length_errors'];
  return {
    title: 'ethtool -S: the counters of the hardware are those of the driver, and there were no errors',
    run(facts) {
      const of = (name: string) => counter(facts, subject, name);
      for (const name of [...errors, 'tx_timeout_count', 'rx_queue_0_csum_err', 'rx_queue_0_drops']) {
        if (of(name) !== 0) throw new Error(`${name} is ${of(name)}`);
      }
      for (const way of ['rx', 'tx']) {
        const [hardware, driver] = [of(`${way}_packets`), of(`${way}_queue_0_packets`)];
        if (hardware !== driver) throw new Error(`${way}_packets is ${hardware}; the driver counts ${driver}`);
      }
    },
  };
}

function interrupted(subject: string, kind: InterruptKind): Check {
  return {
    title: `interrupts come by ${kind}`,
    run(facts) {
      if (!facts.get(subject, 'log.probe').includes(INTERRUPTS[kind].says)) throw new Error(facts.get(subject, 'log.probe'));
      for (const name of INTERRUPTS[kind].lines) {
        const line = lines(facts, subject, 'interrupts').find((each) => each.split(' ')[0] === name);
        if (!(Number(line?.split(' ')[1]) > 0)) throw new Error(`${name} has none:\n${facts.get(subject, 'interrupts')}`);
      }
    },
  };
}

const TESTS = [
  'Register test (offline)',
  'Eeprom test (offline)',
  'Interrupt test (offline)',
  'Loopback test (offline)',
  'Link test (on/offline)',
];

/** Counters of the host's tap beside those of the card behind it. */
export function hostChecks(subject: string, bytes: number): readonly Check[] {
  return [
    answered('ping: the host', subject, 'host'),
    transferred('TCP with the host, MTU 1500', subject, 'host.1500', bytes),
    transferred('TCP with the host, MTU 9000', subject, 'host.9000', bytes),
    {
      title: 'ethtool -S has the frames that the host has counted at its tap',
      run(facts) {
        for (const [ours, theirs] of [
          ['tx_packets', 'received'],
          ['rx_packets', 'sent'],
        ] as const) {
          const [card, tap] = [counter(facts, subject, ours, 'host-statistics'), Number(facts.get('host', `frames.${theirs}`))];
          if (card !== tap) throw new Error(`${ours} is ${card}; the host has ${theirs} ${tap}`);
        }
      },
    },
  ];
}

/** Counters of the two guests on one switch. */
export const wireChecks: readonly Check[] = [
  {
    title: 'each guest has received the frames that the other one sent, by ethtool -S',
    run(facts) {
      // A card filters multicast frames that its guest has not asked for.
      for (const [from, to] of [
        ['first', 'second'],
        ['second', 'first'],
      ] as const) {
        const unicast = (who: string, way: 'tx' | 'rx') => counter(facts, who, `${way}_packets`) - counter(facts, who, `${way}_multicast`);
        const [sent, received] = [unicast(from, 'tx'), unicast(to, 'rx')];
        if (sent !== received) throw new Error(`${from} has sent ${sent}, ${to} received ${received}`);
      }
    },
  },
];

/** Facts of each of two guests with a virtual function. */
export function tenantChecks(subject: string, mac: string): readonly Check[] {
  return [
    quiet('igbvf probes without a complaint', subject, ['probe']),
    tells('igbvf has the address that the driver of the physical function gives it, and a link', subject, {
      driver: 'igbvf',
      mac,
      link: 'Speed: 1000Mb/s\nDuplex: Full\nLink detected: yes',
      'test.status': '0',
    }),
    quiet('no complaint while the driver of the physical function works', subject, ['link']),
  ];
}

/** The work of the first of them. */
export function tenantWorkChecks(subject: string, bytes: number): readonly Check[] {
  return [
    answered('ping: the physical function', subject, 'physical'),
    answered("ping: the other guest, by the card's switch", subject, 'peer', 'peer.9000', 'vlan'),
    transferred('TCP with the other guest, MTU 1500', subject, 'peer.1500', bytes),
    transferred('TCP with the other guest, MTU 9000', subject, 'peer.9000', bytes),
    transferred('TCP with the other guest, in a VLAN', subject, 'vlan', bytes),
    tells('there is no link without a driver of the physical function, and one when it comes again', subject, {
      'carrier.without': '0',
      'carrier.with': '1',
      'ping.again': '3',
    }),
    tells('function-level reset at work, by sysfs', subject, { 'reset.status': '0', 'ping.reset': '3' }),
    tells('the driver is unbound at work, and bound again', subject, { unbound: '', 'ping.unbound': '3' }),
  ];
}

/** Facts of each of two guests. */
export function cardChecks(subject: string, { kind, mac }: { readonly kind: InterruptKind; readonly mac: string }): readonly Check[] {
  return [
    quiet('igb probes without a complaint', subject, ['probe', 'link']),
    tells('igb has the address of the EEPROM, and a link', subject, {
      driver: 'igb',
      mac,
      link: 'Speed: 1000Mb/s\nDuplex: Full\nAuto-negotiation: on\nLink detected: yes',
    }),
    tells('ethtool -t offline: registers, EEPROM, interrupts, loopback, link', subject, {
      'test.status': '0',
      test: ['The test result is PASS', 'The test extra info:', ...TESTS.map((name) => `${name} 0`), ''].join('\n'),
    }),
    quiet('the self test leaves no complaint', subject, ['test']),
    interrupted(subject, kind),
    statistics(subject),
    quiet('no complaint until the end', subject, ['end']),
  ];
}

/** The work of the first guest. */
export function workChecks(subject: string, bytes: number): readonly Check[] {
  return [
    answered('ping: the other guest', subject, 'peer', 'peer.9000', 'vlan'),
    transferred('TCP with the other guest, MTU 1500', subject, 'peer.1500', bytes),
    transferred('TCP with the other guest, MTU 9000', subject, 'peer.9000', bytes),
    transferred('TCP with the other guest, in a VLAN', subject, 'vlan', bytes),
    tells('suspend, with the card in D3hot', subject, { 'suspend.status': '0', 'ping.suspend': '3' }),
    quiet('suspend leaves no complaint', subject, ['suspend']),
    tells('function-level reset, by sysfs', subject, { 'reset.status': '0', 'ping.reset': '3' }),
    says('the reset is an FLR', subject, 'reset.method', /^flr\b/),
    quiet('the reset leaves no complaint', subject, ['reset']),
    tells('the driver is unbound at work, and bound again', subject, { unbound: '', 'ping.unbound': '3' }),
    tells('the card is removed at work, and found again', subject, { removed: 'gone', 'ping.removed': '3' }),
    quiet('neither leaves a complaint', subject, ['unbound', 'removed']),
  ];
}
