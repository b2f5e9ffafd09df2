/** Checks of the facts of guests whose own VFIO drives QEMU's devices. */
import type { AnswersOfCases } from '../conformance/answers.ts';
import { unexplained, type Way } from '../conformance/known-differences.ts';
import { caseResults, comparedWith } from '../conformance/standalone/results.ts';
import { type Check, type Expected, tells } from './checks.ts';
import type { Facts } from './facts.ts';

/** All cases of a program that the guest has run, `least` of them at least, have passed. */
export function casesCheck(via: 'group' | 'cdev', title: string, least: number): Check {
  return {
    title,
    run(facts) {
      const results = caseResults(facts.get(via, 'cases.output'));
      const failed = results.filter(({ outcome }) => outcome === 'failed');
      if (failed.length > 0) throw new Error(failed.map((each) => `${each.title}: ${each.why}`).join('\n'));
      if (results.length < least) throw new Error(`only ${results.length} cases ran:\n${facts.get(via, 'cases.output').slice(-2000)}`);
    },
  };
}

/** The facts that the guest of conformance.sh prints. */
export function conformanceChecks(via: 'group' | 'cdev', engine: AnswersOfCases): Check[] {
  const way: Way = `real ${via}`;
  return [
    casesCheck(via, 'passes every conformance case', 40),
    {
      title: 'gives the answers of the engine, call by call, but for the known differences',
      run(facts) {
        const wrong = unexplained(way, comparedWith(engine, facts.get(via, 'cases.output')));
        const rows = wrong.map(({ call, reference, answer }) => `${call} is ${answer}, should be ${reference}`);
        if (rows.length > 0) throw new Error(rows.join('\n      '));
      },
    },
  ];
}

const USED: Expected = Object.fromEntries(
  ['msi', 'intx', 'poll'].flatMap((kind) => [
    [`${kind}.factorial`, '3628800'],
    [`${kind}.copy`, 'equal'],
  ]),
);

/** The facts of a driver at work that the guest of work.sh prints. */
export function workChecks(way: 'group' | 'cdev'): Check[] {
  const [killed, removed] = [`${way}-killed`, `${way}-removed`];
  return [
    tells('a driver is killed at work: memory decoding and bus mastering are on, then bus mastering is off', killed, {
      working: 'yes',
      'command.at-work': '0107',
      'driver.status': '137',
      'command.after': '0103',
    }),
    tells('the next driver: MSI, INTx and polling, with DMA both ways', killed, { 'again.status': '0', ...USED }),
    tells('the device is removed while its driver works: the driver is asked, and ends', removed, {
      working: 'yes',
      present: 'no',
      'driver.status': '5',
      'driver.words': '0000:00:04.0 is to be removed: its machine asks for it, and the command ends',
    }),
  ];
}

/** The facts of a card that QEMU's monitor unplugs in work.sh. */
export const unplugChecks: readonly Check[] = [
  tells('a card is unplugged while its driver works: the driver is asked, and ends', 'unplugged', {
    working: 'yes',
    'driver.status': '5',
    'driver.words': '0000:01:00.0 is to be removed: its machine asks for it, and the command ends',
    present: 'no',
  }),
];

/** The facts of Linux's sample device, which work.sh moves. */
export const mttyChecks: readonly Check[] = [
  tells("Linux's mtty moves to another one: its registers arrive", 'mtty', {
    'program.status': '0',
    flags: '7', // STOP_COPY, P2P, PRE_COPY
    state: 'RUNNING',
    before: '5a 1b',
    precopied: 'ENOMSG',
    copied: 'the end',
    moved: 'some bytes',
    'state.after': 'STOP RUNNING',
    after: '5a 1b',
  }),
  tells('its log of writes starts and stops', 'mtty', { 'log.start': 'ok', 'log.stop': 'ok' }),
];

/** The facts that the guest of nvme-driver.sh prints. */
export function nvmeDriverChecks(megabytes: number): Check[] {
  const contains = (key: string, text: string): Check => ({
    title: `vfio nvme ${key}`,
    run(facts) {
      const output = facts.get('ours', `${key}.output`);
      if (facts.get('ours', `${key}.status`) !== '0' || !output.includes(text)) throw new Error(output);
    },
  });
  return [
    contains('list', 'QEMU NVMe Ctrl'),
    contains('id', 'QEMU NVMe Ctrl'),
    contains('smart', 'unsafe shutdowns'),
    contains('write', `${megabytes * 2048} blocks written and read back`),
    {
      title: "Linux's own driver reads the blocks that ours has written",
      run(facts) {
        const [is, should] = ['read.sum', 'given.sum'].map((key) => facts.get('linux', key));
        if (is !== should) throw new Error(`the sum is ${is}, should be ${should}`);
      },
    },
  ];
}

/** Commands a second of Linux's driver and ours. Figures only: other work on the machine counts. */
export function printSpeed(facts: Facts): void {
  const linux = Math.max(...facts.get('linux', 'read.4096.32').split('\n').map(Number));
  console.log(`      random reads of 4 KiB a second, depth 32: Linux's driver ${linux}`);
  for (const key of facts.keys('ours', 'bench.').filter((each) => each.endsWith('.output'))) {
    const iops = Number(/"iops": ([\d.]+)/.exec(facts.get('ours', key))?.[1]);
    const [, way, kind] = key.split('.');
    console.log(`      by ${way}, ${kind}: ours ${iops.toFixed(0)}, ratio ${(iops / linux).toFixed(2)}`);
  }
}
