"""Words that tell what a question is about: English, German, French and Spanish, without accents, in small letters.

A term that ends in `*` stands for every word that begins so; a term with a blank for two words in a row. Strong terms
hardly ever stand in a question about something else; weak ones lean one way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """The terms of one domain, separated by commas."""

    strong: str
    weak: str


LEXICON: Final = {
    "legal": Words(
        strong="""
        lawsuit*, plaintiff*, defendant*, statute*, statutory, litigation*, litigate*, attorney*, lawyer*, solicitor*,
        barrister*, tort, torts, tortious, negligence, jurisdiction*, felony, felonies, misdemeanor*, misdemeanour*,
        indict*, subpoena*, affidavit*, habeas, injunction*, appellate, supreme court, court of, due process,
        constitutional*, unconstitutional, hearsay, probate, landlord*, tenant*, tenancy, evict*, trademark*,
        copyright*, infring*, indemni*, arbitration*, force majeure, statute of, gdpr, custody, prenuptial, easement*,
        jurisprudence, mens rea, actus reus, common law, case law, breach of, legal*, illegal*, unlawful*, lawful*,
        law, laws, precedent, contract law, non-compete*, noncompete*, at-will, wrongful*, visa, asylum, deport*,
        extradit*, perjury, parole, bail, plea, prosecut*, acquit*, fourth amendment, first amendment, miranda,
        employment law, gesetz*, rechtlich*, rechts*, anwalt*, rechtsanwalt*, klage, klagen, klager, klageschrift,
        gericht, gerichts*, amtsgericht*, landgericht*, vertragsrecht*, mietrecht*, mieter*, vermieter*,
        kundigungsschutz*, kundigungsfrist*, urheberrecht*, strafbar*, strafrecht*, haftung*, haftet, bgb, stgb,
        dsgvo, testament*, erbrecht*, verjahr*, avocat*, juridique*, tribunal*, tribunaux, bailleur*, locataire*,
        licenciement*, code civil, loi, lois, preavis, responsabilite civile, contrefacon, heritier*, plainte,
        droit du, droit d, prud*, abogad*, juridic*, demanda judicial, demandar, inquilin*, arrendador*, arrendatari*,
        ley, leyes, codigo penal, codigo civil, despido*, delito*, juez, jueza, fiscal general, derecho de,
        derechos de, herencia, copyleft, fair use, adverse possession, intestate, executor*, testator*, bequest*,
        witnesses were, public domain, power of attorney, small claims, restraining order, eigenbedarf, datenschutz*,
        arbeitsrecht, betriebsrat, abmahnung*, propriete intellectuelle, garde a, succession, indemnizacion*,
        improcedente, arrendamiento*""",
        weak="""
        court*, judge*, jury, sue, sued, suing, contract*, clause*, liable, liability, rights, sentence*, sentencing,
        appeal*, treaty, treaties, testimony, witness*, evidence, damages, compliance, comply, regulation*, patent*,
        lease*, terms, dispute*, settlement*, agreement*, consent, waive*, license*, licence*, crime*, criminal*,
        guilty, police, arrest*, warrant*, fraud*, discriminat*, harass*, inherit*, divorc*, guardian*, notary,
        amend*, ruling, employer*, employee*, fired, terminat*, disclosure, nda, confidential*, beneficiar*,
        enforceable, unenforceable, vertrag*, kundig*, klausel*, recht, strafe*, richter*, urteil*, frist, fristen,
        arbeitgeber*, erbe, erben, contrat*, juge*, droit*, employeur*, bail, preuve*, amende*, contrato*, clausula*,
        derecho*, juicio*, testigo*, multa*, sentencia*, empleador*, alquiler, permission*, wills, deed, deeds,
        possession, darf, arbeitgeber, erlaubt, verboten, interdit*, permiso, ilegal*""",
    ),
    "medical": Words(
        strong="""
        symptom*, diagnos*, patient*, medication*, antibiotic*, dosage*, diabet*, hypertens*, hypotens*, cancer*,
        tumor*, tumour*, chemotherap*, vaccin*, immuni*, infection*, infected, bacterial, viral, virus*, asthma*,
        pneumonia, arthritis, migraine*, cholesterol, insulin*, glucose, cardiac, cardio*, heart attack,
        heart failure, blood pressure, stroke, side effect, side effects, contraindicat*, prognosis, surgery,
        surgical, surgeon*, physician*, doctor*, nurse*, clinical*, pediatric*, paediatric*, geriatric*, oncolog*,
        neurolog*, psychiatr*, renal, kidney*, liver, hepat*, thyroid*, anemi*, anaemi*, ibuprofen, paracetamol,
        acetaminophen, aspirin, metformin, warfarin, statin*, opioid*, anticoagul*, antidepress*, ssri*, beta blocker,
        beta blockers, pregnan*, prenatal, breastfe*, miscarriage*, menopaus*, fever*, cough*, rash, nausea, vomit*,
        diarrh*, inflammat*, allerg*, anaphyla*, epilep*, seizure*, alzheimer*, dementia, parkinson*, copd, covid*,
        influenza, sepsis, biopsy, mri, ecg, x-ray, intraven*, anatomy, patholog*, pharmac*, dermatit*, eczema,
        psoriasis, appendic*, fracture*, dislocat*, tendon*, ligament*, toothache, dental, dentist*, medical*,
        medicine*, sleep apnea, arzt, arzte, arztlich*, krankheit*, krankenhaus*, medikament*, nebenwirkung*,
        blutdruck*, herzinfarkt*, impfung*, schwanger*, fieber*, husten, entzund*, kopfschmerz*, bauchschmerz*, krebs,
        schilddruse*, wechselwirkung*, medecin*, maladie*, medicament*, effets secondaires, tension arterielle,
        grossesse, enceinte, fievre, douleur*, hopital, traitement*, ordonnance*, antalgique*, medico*, medicamento*,
        enfermedad*, sintoma*, fiebre, presion arterial, embaraz*, vacuna*, efectos secundarios, tratamiento*,
        hospital*, dolor*, alergi*, tos, tsh, hba1c, mmhg, deficien*, ultrasound, ct scan, blood test, blood tests,
        antihistamine*, antiviral*, steroid*, corticosteroid*, vitamin d, blutwert*, hausarzt*, analyse de sang,
        analitica, colesterol""",
        weak="""
        disease*, treat*, therap*, chronic, acute, dose*, drug*, pain*, blood, heart, lung*, brain, skin, bone*,
        muscle*, joint*, immune, hormon*, gene, genetic*, syndrome*, disorder*, depress*, anxiety, health*, unhealthy,
        hospital*, injur*, wound*, swollen, swelling, dizz*, fatigue*, bleed*, rate, screening, vitamin*, diet*,
        nutrition*, obes*, weight, infant*, newborn*, toddler*, adult*, pill*, tablet*, prescri*, mg, sleep, insomnia,
        headache*, throat, stomach*, bowel*, urin*, nerve*, spine, spinal, cell*, protein*, artery, arteries, vein*,
        exercise*, recover*, schmerz*, behandl*, blut, herz, haut, tablette*, dosis, gesund*, sante, sang, coeur,
        peau, dose, comprime*, salud, sangre, corazon, piel, pastilla*, fatigue, elevated, levels, chest, knee*,
        ankle*, shoulder*, back pain, doctor""",
    ),
    "financial": Words(
        strong="""
        stock*, shareholder*, dividend*, portfolio*, invest*, equity, equities, bond, bonds, mortgage*, interest rate,
        interest rates, inflation*, etf, etfs, mutual fund, hedge fund, index fund, index funds, ira, roth, 401k,
        pension*, retirement, ebitda, cash flow, cash flows, balance sheet, income statement, net present, npv, irr,
        wacc, capm, valuation*, depreciation, amortiz*, amortis*, accrual*, accounting, accountant*, audit*, tax,
        taxes, taxable, taxation, irs, vat, capital gain, capital gains, deductible, liquidity, solvency, leverage,
        leveraged, yield, yields, coupon*, derivative*, call option, put option, options contract, futures, swap,
        arbitrage, forex, exchange rate, exchange rates, monetary, fiscal, central bank, federal reserve, ecb, gdp,
        bank*, credit score, credit card, loan*, debt*, refinanc*, collateral*, underwrit*, ipo, venture capital,
        private equity, startup equity, earnings, revenue*, profit*, margin call, gross margin, working capital,
        budget*, broker*, volatility, treasury, bitcoin, crypto*, compound interest, apr, apy, financ*, econom*,
        price-to-earnings, p/e, ifrs, gaap, sharpe ratio, black-scholes, duration risk, payroll, bookkeeping,
        goodwill, aktie*, aktien*, anleihe*, zins, zinsen, zinssatz*, rendite*, steuer*, einkommensteuer*,
        umsatzsteuer*, mehrwertsteuer*, kredit*, darlehen*, hypothek*, bilanz*, altersvorsorge, rente, sparplan*,
        sparen, abschreib*, geldanlage*, inflationsrate*, gewinn, wechselkurs*, depot, actions, obligations, epargne*,
        impot*, credit immobilier, taux, rendement*, placement*, bourse, bilan, tresorerie, hypotheque*, retraite,
        tva, fiscalite, accion, acciones, bonos, hipoteca*, impuesto*, inversi*, invertir, ahorr*, prestamo*, tipo de,
        tasa de, rentabilidad, bolsa, jubilacion, iva, flujo de, fondo de, fondos, interes compuesto,
        interets composes, small business, sole trader, freelance*, amortissement*, amortiza*, amortisation,
        pret immobilier, emprunt*, rentabili*, financiacion, finanz*""",
        weak="""
        market*, fund*, asset*, risk*, return*, interest, price*, pricing, cost*, income, salary, salaries, wage*,
        expense*, capital, insurance, premium*, pay, paid, payment*, dollar*, euro, euros, usd, eur, fee, fees,
        credit*, deposit*, account*, rate, rates, diversif*, hedge*, hedging, long-term, short-term, maturity,
        annual*, quarter*, fiscal, currency, currencies, trade, trading, trader*, buy, sell, sold, purchase*, save,
        lend*, borrow*, net worth, percent, cash, business*, company, balance, ledger, invoice*, option, options,
        nominal, discount*, liabilit*, geld, markt, fonds, konto, versicherung*, gehalt, kosten, betrag, argent,
        marche*, assurance*, salaire*, compte*, prix, dinero, mercado*, cuenta*, seguro*, salario*, precio*, gasto*,
        pagar, lease, leasing, immobilier, tasas, interes, interet, interets, money, savings""",
    ),
    "technical": Words(
        strong="""
        python*, javascript, typescript, java, rust, golang, kotlin, haskell, c++, sql, postgres*, mysql, sqlite,
        mongodb, redis, kafka, kubernetes, docker*, container*, linux, unix, bash, nginx, terraform, ansible, aws,
        azure, github, git, api, apis, rest api, graphql, grpc, http, https, tcp, udp, dns, tls, ssl, ssh, json, yaml,
        xml, html, css, react, django, flask, fastapi, node.js, nodejs, npm, compiler*, compile*, runtime, algorithm*,
        data structure, data structures, hash table, hash map, hashmap, binary tree, binary search, linked list,
        recursion, recursive, big-o, time complexity, mutex*, deadlock*, thread-safe, multithread*, threads,
        concurren*, asynchronous, asyncio, race condition, garbage collector, garbage collection, memory leak,
        stack overflow, stack trace, segfault*, exception handling, unit test, unit tests, debug*, refactor*,
        microservice*, load balancer, load balancing, database*, query planner, transaction isolation, sharding,
        shard*, replication, cache invalidation, caching, backend, frontend, devops, ci/cd, software*, firmware*,
        hardware, cpu*, gpu*, fpga*, microcontroller*, arduino, raspberry, transistor*, mosfet*, circuit*, voltage*,
        capacitor*, resistor*, oscilloscope*, pcb, i2c, spi, uart, neural network, neural networks, machine learning,
        deep learning, gradient descent, transformer model, overfit*, regex*, encryption, encrypt*, cryptograph*,
        authentication, oauth*, jwt, firewall*, vpn, subnet*, router*, bandwidth, latency, throughput, kernel,
        filesystem*, virtual machine, virtual machines, programming, programmer*, code review, pull request,
        merge conflict, dataframe*, numpy, pandas, pytorch, tensorflow, servo*, torque, turbine*, hydraulic*, beam,
        weld*, tensile, thermodynamic*, heat exchanger, pid controller, distributed system, distributed systems,
        idempotent, websocket*, webhook*, endpoint*, url, embedded, programmier*, datenbank*, quellcode*,
        rechnernetz*, betriebssystem*, schnittstelle*, speicherleck*, algorithmus, schaltung*, spannung*,
        verschlussel*, programmation, logiciel*, base de donnees, bases de donnees, algorithme*, serveur*, reseau*,
        chiffrement, programacion, base de datos, bases de datos, algoritmo*, servidor*, cifrado, red local,
        compilador*, hilos, pile et, null pointer, source code, open source, cache*, parser*, state machine,
        feature flag, schema migration""",
        weak="""
        code, coding, function*, class, classes, method*, variable*, loop, loops, array*, list, string*, integer*,
        pointer*, object*, inherit*, interface*, library, libraries, framework*, module*, package*, server*, client*,
        network*, protocol*, request*, response*, error*, exception*, bug*, crash*, memory, stack, queue*, heap,
        index*, table*, query, queries, join, key, schema*, deploy*, build, cluster*, node*, cloud, config*, script*,
        terminal, command*, shell, file, files, directory, install*, version*, implement*, optimi*, performance,
        parallel, process*, thread, lock*, event*, async, await, callback*, type, types, generic*, test*, signal*,
        sensor*, motor*, battery, engine*, machine, system, systems, model, training, dataset*, data, input, output,
        bit, bits, byte*, binary, computer*, web, app, apps, browser*, log, logs, token*, hash*, stress, load,
        pressure, steel, design pattern, engineer*, robot*, signal, programm*, funktion*, fehler*, speicher*,
        abfrage*, rechner*, netzwerk*, fonction*, requete*, memoire, donnees, erreur*, funcion*, codigo, memoria,
        consulta*, datos, red, pile, puntero*, cola, schleife*, zeiger*, boucle*""",
    ),
    "creative": Words(
        strong="""
        poem*, poetry, poetic, haiku*, sonnet*, limerick*, rhym*, lyrics, ballad*, short story, bedtime story,
        fairy tale, fairytale*, write a, fable*, screenplay*, monologue*, stanza*, novel, novella, fiction*, fanfic*,
        protagonist*, antagonist*, villain*, worldbuilding, world-building, plot twist, plot twists, tagline*,
        slogan*, love letter, opening line, opening paragraph, first chapter, free verse, backstory, storytelling,
        story about, satir*, parody, parodies, scene where, in the style of, song about, villanelle, imaginary,
        whimsical, dystopian, gedicht*, marchen*, kurzgeschichte*, erzahlung*, reim*, schreibe eine, schreib eine,
        schreib ein, schreibe ein, roman, liedtext*, poeme*, conte, nouvelle, ecris un, ecris une, ecrivez un,
        redige un, imagine une, rime*, chanson*, histoire courte, poema*, cuento*, escribe un, escribe una, relato*,
        rima*, cancion*, inventa un, inventa una, novela*, dialogue between, conversation between, rewrite the ending,
        alternate ending, fantasy kingdom, fantasy, sci-fi, science fiction, epilogue*, prologue*, compose a,
        names for a, diary entry, fictional""",
        weak="""
        story, stories, character*, dialogue*, scene*, narrat*, imagine*, imaginat*, creative*, write, writing,
        rewrite, compose, verse*, song*, metaphor*, dragon*, wizard*, ghost*, princess*, knight*, robot who,
        brainstorm*, name for, names for, toast, speech, joke*, humor*, humorous, funny, vivid*, describe, evoc*,
        tale, tales, love, moon, autumn, spaceship*, detective, chapter*, mood, tone, invent, pretend, role-play*,
        roleplay*, caption*, blog, geschichte*, erfinde*, figur*, drache*, schreib*, ecris, invente*, personnage*,
        histoire*, escribe, inventa*, personaje*, historia*, verso*, vers, kingdom*, ending, survive, magic*, legend*,
        myth*, pirate*, fairy, fairies""",
    ),
}  # fmt: skip
