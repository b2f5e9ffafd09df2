/**
 * `npm run bench [-- device dma events vfio-user nvme migration]`: figures beside their floors. No
 * figure passes or fails.
 */
import { deviceBench } from './device.ts';
import { dmaBench } from './dma.ts';
import { eventsBench } from './events.ts';
import { migrationBench } from './migration.ts';
import { nvmeBench } from './nvme.ts';
import { vfioUserBench } from './vfio-user.ts';

const suites: Record<string, () => Promise<void>> = {
  device: deviceBench,
  dma: dmaBench,
  events: eventsBench,
  'vfio-user': vfioUserBench,
  nvme: nvmeBench,
  migration: migrationBench,
};

const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (!(name in suites)) {
    console.error(`bench: there is no suite '${name}'; there are ${Object.keys(suites).join(', ')}`);
    process.exit(2);
  }
}
for (const [name, run] of Object.entries(suites)) if (wanted.length === 0 || wanted.includes(name)) await run();
