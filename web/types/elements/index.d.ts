import { CarillonBell } from "./bell.js";
import { CarillonStatus } from "./status.js";
import { CarillonToasts } from "./toasts.js";
export { provideClient } from "./base.js";
export { createNotificationClient, Problem } from "../core/client.js";
export { CarillonBell, CarillonStatus, CarillonToasts };
