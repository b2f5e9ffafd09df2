/** A guest with the devices of examples/devices and an entropy device, each served as users do. */
import { join } from 'node:path';
import { type Check, tells } from './checks.ts';
import { scenario, type Visits } from './visits.ts';

const DRIVERS = ['8250_pci', 'i6300esb', 'virtio_pci', 'virtio_rng'];

const served = (name: string) => [join(import.meta.dirname, 'devices', `${name}.ts`)];

const uartChecks: readonly Check[] = [
  tells('Linux binds its driver of serial cards, and finds a 16550A', 'uart', { driver: 'serial', tty: 'yes', type: '4' }),
  tells('bytes go both ways, by interrupts', 'uart', {
    answer: 'HELLO\nA LONGER LINE, OF MORE BYTES THAN THE SIXTEEN OF A FIFO',
    interrupts: 'some',
  }),
];

const watchdogChecks: readonly Check[] = [
  tells('Linux binds i6300esb', 'watchdog', { driver: 'i6300ESB timer', device: 'yes' }),
  tells('it does nothing while the guest keeps it alive, and pulls the reset line once when the guest stops', 'watchdog', {
    'reboots.kept-alive': '0',
    'reboots.not-kept-alive': '1',
  }),
];

const rngChecks: readonly Check[] = [
  tells('Linux binds virtio_pci and virtio_rng', 'rng', { 'pci.driver': 'virtio-pci', driver: 'virtio_rng', current: 'virtio_rng.0' }),
  tells('/dev/hwrng reads the bytes of the device, by MSI-X', 'rng', { bytes: '5a'.repeat(32), 'interrupt.lines': '1' }),
];

export async function visitDevices(visits: Visits): Promise<void> {
  await visits.withServed(served('uart'), (uart) =>
    visits.withServed(served('watchdog'), (watchdog) =>
      visits.withServed(served('virtio-rng'), async (rng) => {
        const reboots = () => watchdog.said.split('the watchdog pulls the reset line').length - 1;
        await visits.visit(
          "the devices of examples/devices, with Linux's drivers",
          {
            scenario: scenario('devices.sh'),
            entries: visits.tools.modules('drivers', DRIVERS),
            iommu: false,
            qemu: [
              ...uart.qemuDevice({ addr: '5' }),
              ...watchdog.qemuDevice({ addr: '6' }),
              ...['-device', 'pcie-root-port,id=root1,chassis=1,addr=7'],
              ...rng.qemuDevice({ bus: 'root1' }),
            ],
            onFact(subject, key, value, guest) {
              if (subject === 'watchdog' && key === 'waits') guest.note('watchdog', `reboots.${value}`, reboots());
            },
          },
          { uart: uartChecks, watchdog: watchdogChecks, 'virtio-rng': rngChecks },
        );
      }),
    ),
  );
}
