/** Opens a virtual function with and without the VF token of its physical function. */
import { VfioError } from '../../src/base/errno.ts';
import { KernelDevice, type KernelDeviceOptions } from '../../src/kernel/device.ts';

const token = '0d3cd3a2-5cbf-4fd1-9a2c-3c0c0c0d4e5f';
const other = '1d3cd3a2-5cbf-4fd1-9a2c-3c0c0c0d4e5f';
const [pf, vf] = process.argv.slice(2) as [string, string];

function tried(bdf: string, options: KernelDeviceOptions): string {
  try {
    using device = KernelDevice.open({ kind: 'pci', bdf }, options);
    return `${device.via}: ${device.why}`;
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    return error.explain();
  }
}

const ways = [{ via: 'group' }, { via: 'cdev' }, {}] as const;
const physical = (options: KernelDeviceOptions) => KernelDevice.open({ kind: 'pci', bdf: pf }, options);
const answers = { right: [] as string[], wrong: [] as string[], none: [] as string[] };
{
  using _pf = physical({ token });
  for (const way of ways) {
    answers.right.push(tried(vf, { ...way, token }));
    answers.wrong.push(tried(vf, { ...way, token: other }));
    answers.none.push(tried(vf, way));
  }
}
console.log(JSON.stringify({ ...answers, unwanted: tried(vf, { token: 'no UUID' }) }));
