/** A guest whose kernel drives the package's endpoint-test with Linux's own pci_endpoint_test. */
import { Unavailable } from '../../src/api/linux/unavailable.ts';
import { type Check, type Expected, tells } from './checks.ts';
import { driverModule } from './driver-module.ts';
import { buildProgram } from './guest-tools.ts';
import type { ModuleBuild } from './module-build.ts';
import { scenario, type Visits } from './visits.ts';

const ways = ['read', 'write', 'copy'].flatMap((way) => [way, `${way}.dma`]);
const all = (names: readonly string[]): Expected => Object.fromEntries(names.map((name) => [name, 'ok']));
/** Transfers of 1 byte to 1 MB, and the doorbell, by one kind of interrupt. */
const by = (kind: string): Expected => all(['type', ...ways, 'doorbell'].map((name) => `${kind}.${name}`));

const checks: readonly Check[] = [
  tells('Linux binds pci_endpoint_test, and finds six BARs, 32 MSI and 2048 MSI-X', 'endpoint', {
    driver: 'pci-endpoint-test',
    region: [0, 1, 2, 3, 4, 5]
      .map((bar) => `Region ${bar}: Memory (32-bit, non-prefetchable) [size=${bar === 5 ? '1M' : '128K'}]`)
      .join('\n'),
    capability: 'MSI: Enable- Count=1/32 Maskable- 64bit+\nMSI-X: Enable- Count=2048',
    end: 'reached',
  }),
  tells('INTx: transfers with checksums, and the doorbell', 'endpoint', { 'intx.raised': 'ok', ...by('intx') }),
  tells('MSI: each of 32 messages, transfers, the doorbell', 'endpoint', { 'msi.messages': '32, then no more', ...by('msi') }),
  tells('MSI-X: each of 2048 messages, transfers, the doorbell', 'endpoint', { 'msix.messages': '2048, then no more', ...by('msix') }),
  tells('memory behind the BARs, each alone and all together', 'endpoint', all([...[0, 1, 2, 3, 4, 5].map((bar) => `bar.${bar}`), 'bars'])),
  tells('halves of BARs are exchanged and back', 'endpoint', all([1, 2, 3, 4, 5].map((bar) => `subrange.${bar}`))),
];

export async function visitEndpoint(visits: Visits, build: ModuleBuild): Promise<void> {
  let module: Uint8Array;
  try {
    module = driverModule(build, 'drivers/misc/pci_endpoint_test.c');
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    console.log(`\n*** endpoint-test was not tried in a guest: ${error.message} ***`);
    return;
  }
  await visits.withServed(['endpoint-test'], async (served) => {
    await visits.visit(
      "endpoint-test, with Linux's pci_endpoint_test",
      {
        scenario: scenario('endpoint.sh'),
        entries: [
          { kind: 'file', path: 'modules/pci_endpoint_test.ko', bytes: module },
          { kind: 'file', path: 'bin/pcitest', bytes: buildProgram('pcitest', build.cache), executable: true },
        ],
        iommu: true,
        // 2048 vectors, of which x86 has 200 for each.
        processors: 12,
        qemu: ['-device', 'pcie-root-port,id=root1,chassis=1', ...served.qemuDevice({ bus: 'root1' })],
      },
      { 'endpoint-test': checks },
    );
  });
}
