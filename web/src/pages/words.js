// The words of /notifications itself, in the languages of the elements. What people are called there comes from the server, in English.

const WORDS = {
  en: { title: "Notifications", skip: "Skip to the notifications", youAre: "You are" },
  de: {
    title: "Benachrichtigungen", skip: "Zu den Benachrichtigungen springen", youAre: "Angemeldet als",
    "student": "Studentin", "university admin": "Universitätsverwaltung", "super admin": "Gesamtverwaltung", "agent": "Support",
    "instructor": "Dozentin", "member": "Mitglied", "sales manager": "Vertriebsleitung", "sales": "Vertrieb",
  },
  es: {
    title: "Notificaciones", skip: "Saltar a las notificaciones", youAre: "Eres",
    "student": "estudiante", "university admin": "administración de la universidad", "super admin": "administración general", "agent": "soporte",
    "instructor": "docente", "member": "miembro", "sales manager": "dirección de ventas", "sales": "ventas",
  },
  fr: {
    title: "Notifications", skip: "Aller aux notifications", youAre: "Vous êtes",
    "student": "étudiante", "university admin": "administration de l’université", "super admin": "administration générale", "agent": "assistance",
    "instructor": "enseignante", "member": "membre", "sales manager": "direction des ventes", "sales": "ventes",
  },
  ar: {
    title: "الإشعارات", skip: "الانتقال إلى الإشعارات", youAre: "أنت",
    "student": "طالبة", "university admin": "إدارة الجامعة", "super admin": "الإدارة العامة", "agent": "الدعم",
    "instructor": "مدرّسة", "member": "عضو", "sales manager": "إدارة المبيعات", "sales": "المبيعات",
  },
};

/** The page's language: English where it has no words of the one that is asked for. @param {string} [asked] */
export function speak(asked = "en") {
  const code = asked.slice(0, 2).toLowerCase();
  const words = WORDS[code] ?? WORDS.en;
  document.documentElement.lang = WORDS[code] ? asked : "en";
  document.documentElement.dir = code === "ar" ? "rtl" : "ltr";
  document.title = `${words.title} · Carillon`;
  for (const place of document.querySelectorAll("[data-word]")) place.textContent = words[place.dataset.word];
  return (english) => words[english] ?? english;
}
