// The console's pages. To add one: a file of its own beside this one, a line here, and its module in
// stranglerfig/console (whose docstring in app.py says the rest).
import type { ComponentType } from "react";
import { AuditPage } from "./audit";
import { EstatePage } from "./estate";
import { ExtractionPage } from "./extraction";
import { LogPage } from "./log";
import { SagasPage } from "./sagas";

export interface PageProps {
  /** What stands behind the page's name in the address: `#/extractions/inventory` → `["inventory"]`. */
  parts: string[];
}

export interface Page {
  /** First part of the address; the estate's is empty. */
  name: string;
  title: string;
  /** Whether the navigation shows it. */
  listed: boolean;
  Show: ComponentType<PageProps>;
}

export const PAGES: Page[] = [
  { name: "", title: "Estate", listed: true, Show: EstatePage },
  { name: "extractions", title: "Extraction", listed: false, Show: ExtractionPage },
  { name: "log", title: "Log", listed: true, Show: LogPage },
  { name: "sagas", title: "Sagas", listed: true, Show: SagasPage },
  { name: "audit", title: "Audit", listed: true, Show: AuditPage },
];
