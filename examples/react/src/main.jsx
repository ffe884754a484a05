// A host application in React: a bell, a summary, and a list with looks of its own. Beside a Carillon that lets its origin
// in, `CARILLON_ALLOWED_ORIGINS=http://localhost:5173 make up`, it runs with `npm ci` and `npm run dev` in this folder.
// (`VITE_CARILLON_URL` names a Carillon elsewhere.)

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { NotificationBell, NotificationItem, NotificationList, NotificationProvider, useNotifications, useNotificationStream } from "carillon-web/react";

const options = {
  baseUrl: import.meta.env.VITE_CARILLON_URL ?? "http://localhost:8000",
  // Pages of one name show the same person.
  signIn: "/carillon-token",
  // This application's server says who is signed in here; in development vite.config.js does.
  auth: async () => (await (await fetch("/carillon-token")).json()).token,
};

function Summary() {
  const { unreadCount, hasUnread, markAllAsRead, deleteAllRead } = useNotifications();
  const { status } = useNotificationStream();
  return (
    <p>
      <output>{unreadCount} unread, {status}</output>{" "}
      <button onClick={markAllAsRead} disabled={!hasUnread}>Read everything</button>{" "}
      <button onClick={deleteAllRead}>Delete what is read</button>
    </p>
  );
}

function App() {
  return (
    <NotificationProvider options={options}>
      <header><h1>My application</h1><NotificationBell /></header>
      <Summary />
      <NotificationList aria-label="What happened" renderItem={(item) => <NotificationItem key={item.id} notification={item} />} />
    </NotificationProvider>
  );
}

createRoot(document.getElementById("app")).render(<StrictMode><App /></StrictMode>);
