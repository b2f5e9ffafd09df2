/** The process of `MachineProcess`: machine-process-child.ts DIRECTORY MACHINE.yaml SECONDS */

import { MachineServer } from '../../src/api/machine-server.ts';
import { loadMachine } from '../../src/doors/machine.ts';
import type { Order, Report } from './machine-process.ts';

const [directory, file, seconds] = process.argv.slice(2) as [string, string, string];
setTimeout(() => process.exit(3), Number(seconds) * 1000);
process.on('disconnect', () => process.exit(0));

const lines: string[] = [];
const log = { log: (_level: string, text: string) => void lines.push(text) };

function start() {
  const machine = loadMachine(file, { log });
  return { machine, server: new MachineServer(machine, directory, { log }) };
}

let running = start();

process.on('message', (order: Order) => {
  if (order.ask === 'fresh') {
    running.server[Symbol.dispose]();
    running.machine[Symbol.dispose]();
    running = start();
  } else if (order.ask === 'suspend') {
    void running.machine.suspend().then(() => report(order.number));
    return;
  } else if (order.ask === 'suspend-again') {
    // The second request comes before any client can hear of the first.
    void running.machine.suspend();
    running.machine.resume();
    void running.machine.suspend().then(() => report(order.number));
    return;
  } else if (order.ask === 'resume-later') {
    setTimeout(() => running.machine.resume(), 300);
  } else if (order.ask === 'resume') {
    running.machine.resume();
  } else if (order.ask === 'numvfs') {
    void running.machine.setNumVfs(order.bdf, order.count).then(() => report(order.number));
    return;
  } else if (order.ask === 'rebind') {
    void running.machine.unbind(order.bdf).then(() => {
      running.machine.bind(order.bdf, 'vfio-pci');
      report(order.number);
    });
    return;
  }
  report(order.number);
});

function report(number: number): void {
  process.send!({ number, functions: [...running.machine.functions.keys()], served: running.server.functions, lines } satisfies Report);
}
report(0);
