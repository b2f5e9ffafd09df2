// edu-tenant.ts
// A driver of one function of an SR-IOV device: docs/sriov.md runs it.
import { EduDriver, open } from 'vfio-ts/driver';

export async function main(address: string, { token }: { token?: string }) {
  // The token comes from `vfio run --vf-token-file`.
  using dev = await open(address, { match: EduDriver.ids, token });
  using edu = new EduDriver(dev);
  console.log(`10! is ${await edu.factorial(10)}`);
}
